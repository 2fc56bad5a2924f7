"""The demo: the working lives of a company's people through the whole pipeline, compared with what they should be."""
