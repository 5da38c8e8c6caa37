"""What onnxdiana knows about operators (:mod:`.ops`) and about spellings of the same graph (:mod:`.canonicalize`)."""

if __name__ != "onnxdiana.rules":  # the folder stands at the top of the repository, the package does not
    raise ImportError(f"import onnxdiana.rules, not {__name__}")
