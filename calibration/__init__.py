"""Tools that calibrate a site from measurements; each writes TOML that agls reads."""
