"""``python -m onnxdiana``."""

from onnxdiana.cli import main

raise SystemExit(main())
