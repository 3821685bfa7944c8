"""Reaching, checking and preparing hosts: connections, executors, images and findings."""
