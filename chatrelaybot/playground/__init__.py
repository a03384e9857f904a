"""A local Slack workspace and a sample backend: for tests, and for trying the bot without Slack.

It keeps Slack's rules, as documented and as observed, not this bot's.
"""
