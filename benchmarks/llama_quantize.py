"""Writes a GGUF in another of llama.cpp's forms, by its own quantizer: llama_quantize.py IN OUT q8_0|q4_0.

Runs in an interpreter that has llama-cpp-python; `serving.py` calls it.
"""

import ctypes
import os
import sys

import llama_cpp

FORMS = {"q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}

source, target, form = sys.argv[1:]
how = llama_cpp.llama_model_quantize_default_params()
how.allow_requantize, how.ftype = True, FORMS[form]
whole = f"{target}.part"
if llama_cpp.llama_model_quantize(source.encode(), whole.encode(), ctypes.byref(how)):
    sys.exit(f"{source} can't be quantized to {form}")
os.replace(whole, target)
