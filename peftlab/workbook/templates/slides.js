(() => {
  "use strict";
  const slides = [...document.querySelectorAll(".slide")];
  const fragments = slide => [...slide.querySelectorAll(".fragment")];
  const number = document.getElementById("number");
  let at = 0, step = 0; // the slide that is shown, and how many of its fragments

  /* An explorer has a layout of its own, which is enlarged to fill its place. */
  function enlarge(stage) {
    const { clientWidth: width, clientHeight: height } = stage.parentElement;
    if (width) stage.style.transform = `scale(${Math.min(width / stage.offsetWidth, height / stage.offsetHeight)})`;
  }

  /* Text that a slide has no room for, or that leaves too little of it to a picture, becomes smaller. */
  function fit(slide) {
    const shown = slide.querySelector(".shown");
    shown.style.fontSize = "";
    const size = parseFloat(getComputedStyle(shown).fontSize) / parseFloat(getComputedStyle(document.documentElement).fontSize);
    const tight = () => shown.scrollHeight > shown.clientHeight || shown.scrollWidth > shown.clientWidth
      || [...shown.querySelectorAll(".figure")].some(each => each.clientHeight && each.clientHeight < 0.6 * shown.clientHeight);
    for (let share = 0.95; share > 0.6 && tight(); share -= 0.05) shown.style.fontSize = `${share * size}rem`;
    slide.querySelectorAll(".stage").forEach(enlarge);
  }

  /* While a picture is to come, the question has the slide for itself; then the picture has. */
  function reveal(slide, steps) {
    fragments(slide).forEach((each, i) => each.classList.toggle("waiting", i >= steps));
    const pictures = [...slide.querySelectorAll(".figure")], seen = pictures.some(each => !each.classList.contains("waiting"));
    slide.classList.toggle("asking", pictures.length > 0 && !seen);
    slide.classList.toggle("answered", seen && pictures.some(each => each.classList.contains("fragment")));
    fit(slide);
  }

  function show(slide, steps) {
    at = Math.min(Math.max(slide, 0), slides.length - 1);
    step = Math.min(steps, fragments(slides[at]).length);
    slides.forEach((each, i) => { each.hidden = i !== at; });
    reveal(slides[at], step);
    number.textContent = `${at + 1} / ${slides.length}`;
    history.replaceState(null, "", `#${at + 1}`);
    slides[at].focus({ preventScroll: true });
  }

  const on = () => { if (step < fragments(slides[at]).length) show(at, step + 1); else if (at < slides.length - 1) show(at + 1, 0); };
  const back = () => { if (step > 0) show(at, step - 1); else if (at > 0) show(at - 1, Infinity); };
  const notes = () => { document.body.classList.toggle("noted"); fit(slides[at]); };
  const fromHash = () => show((parseInt(location.hash.slice(1), 10) || 1) - 1, 0);
  const KEYS = {
    ArrowRight: on, ArrowDown: on, PageDown: on, " ": on, ArrowLeft: back, ArrowUp: back, PageUp: back, n: notes,
    Home: () => show(0, 0), End: () => show(slides.length - 1, Infinity),
  };
  const theirs = "a, button, input, select, summary, details, aside";

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
    const explored = event.composedPath().some(each => each.classList?.contains("live"));
    if (explored && !event.key.startsWith("Page")) return; // its controls need the other keys
    if (event.key === " " && event.target.closest(theirs)) return;
    event.preventDefault();
    (event.key === " " && event.shiftKey ? back : KEYS[event.key])();
  });
  document.querySelector("main").addEventListener("click", event => {
    if (event.target.closest(`${theirs}, .live`) || !getSelection().isCollapsed) return;
    (event.clientX < innerWidth / 3 ? back : on)();
  });
  document.getElementById("on").addEventListener("click", on);
  document.getElementById("back").addEventListener("click", back);
  addEventListener("hashchange", fromHash);
  addEventListener("resize", () => fit(slides[at]));
  addEventListener("beforeprint", () => slides.forEach(each => {
    each.hidden = false;
    reveal(each, Infinity);
    each.classList.remove("answered"); // paper shows what a picture has replaced
    fit(each);
  }));
  addEventListener("afterprint", () => show(at, step));
  const drawn = new ResizeObserver(entries => entries.forEach(entry => enlarge(entry.target)));
  document.querySelectorAll(".stage").forEach(each => drawn.observe(each));
  fromHash();
})();
