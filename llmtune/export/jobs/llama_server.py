"""Serve one GGUF file with llama.cpp on this machine's loopback. Run by `llmtune.export.llama_runtime`.

Input (JSON): gguf, context (tokens), threads, exact, key, result (path). Result (JSON): {"address", "version"}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = job["gguf"]
    params.n_ctx = job["context"]
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [job["key"]]
    params.warmup = False
    params.use_jinja = True
    params.ui = False
    params.fit_params = False
    params.swa_full = True  # a window of attention must not make the prompt cache useless
    if job["exact"]:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_gpu_layers = 0
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # one token at a time: waiting threads only disturb
    server = xllamacpp.Server(params)
    partial = Path(job["result"] + ".partial")
    partial.write_text(
        json.dumps({"address": server.listening_address, "version": xllamacpp.__version__}), encoding="utf-8"
    )
    partial.replace(job["result"])
    while os.read(0, 1):  # until the parent closes it or is gone
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
