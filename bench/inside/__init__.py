"""What runs within the checkout that is measured. Everything else in `bench` looks at it from outside."""
