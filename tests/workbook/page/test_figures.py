"""Numbered and enlarged figures."""

from peftlab.workbook.page.figures import number_figures


def test_a_picture_can_be_enlarged_and_an_explorer_not():
    png = 'src="data:image/png;base64,iVBO"/>'
    html = number_figures(f'<img alt="A." {png}<img alt="B." class="peftlab-strip" {png}')
    assert html.count("<figure") == 2 and html.count('type="checkbox"') == 1 and "Enlarge figure 1" in html
