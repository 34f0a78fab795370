"""Outgoing HTTP requests: their deadlines, the proxy and the certificate authorities."""
