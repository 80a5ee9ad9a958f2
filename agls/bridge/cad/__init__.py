"""CAD formats, one file each: every format is a projection of one incident."""
