"""Handing masks over: promotion, export, import."""
