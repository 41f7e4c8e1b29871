"""Model packs from pretrained models. The only place, with the export, that needs torch, transformers and onnx."""
