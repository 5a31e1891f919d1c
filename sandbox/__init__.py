"""What stands in for servers and AWS on a developer's machine and in tests. The product never imports it."""
