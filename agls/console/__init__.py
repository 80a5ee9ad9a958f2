"""The first plain page: a live map and the incidents, served on this machine only."""
