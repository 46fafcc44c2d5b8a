"""What is learned: tasks with images and labels, real or synthetic, images with captions."""
