"""How fast pictures come, measured against what one would use instead: `t2i bench`."""
