"""Media below RTP: sources and encoders of local tracks, received tracks, payload parsing."""
