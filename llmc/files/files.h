/*
Files of other programs and our own, read as what they are: untrusted.

Formats, which know nothing of a model. This header includes them:
    json.h            JSON: parsed, checked, and with good messages
    safetensors.h     tensors by name, read and written; finite.h: whether they are numbers
    gguf.h            llama.cpp's models: tensors and keys, read; gguf_parts.h: of several files
    sha256.h          which file that was
    model_dir.h       is this a Hugging Face folder or a GGUF file, and if not, what is it?
    dataset.h         problems, one a line
    select.h          some of them: the first, the short ones, those held out
What is stored in them, each included by itself:
    config.h          what a model says of itself
    model_files.h     its tensors, wherever they are
    weights.h         the model loaded, and by way of it the two before
    steering_file.h   steering vectors
    file_tensor.h     trained numbers as tensors
    peft_targets.h    which matrices an adapter of the PEFT library changes
    peft.h            such an adapter
    checkpoint.h      everything that a run needs to go on
    journal.h         answers kept while a benchmark is being answered
    export_files.h    folders in which nothing is overwritten
    export_adapter.h  a LoRA for other programs
    export.h          vectors for other programs, and by way of it the two before

From outside: files.h safetensors.h weights.h steering_file.h file_tensor.h peft.h checkpoint.h journal.h export.h
*/
#ifndef LLMC_FILES_FILES_H
#define LLMC_FILES_FILES_H

#include "llmc/files/json.h"
#include "llmc/files/safetensors.h"
#include "llmc/files/gguf_parts.h" // and gguf.h
#include "llmc/files/sha256.h"
#include "llmc/files/model_dir.h"
#include "llmc/files/select.h" // and dataset.h

#endif
