"""What every room needs: errors, files that survive a crash, paths, progress bars."""
