"""The picture that excites a unit most: by ascent, by formula, or by a jump between vertices."""
