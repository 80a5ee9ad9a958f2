"""From incidents to dispatch and cameras: CAD events, slew requests and the webhook that carries them."""
