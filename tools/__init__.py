"""Programs for those who train on Cloud TPUs or release effnet_tf; the wheel has none of them."""
