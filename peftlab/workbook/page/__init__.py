"""An executed notebook as one HTML page, and the index over all pages."""
