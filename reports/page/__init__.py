"""What all pages share: reading of a run, sprite sheets, words, colours, templates."""
