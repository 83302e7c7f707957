"""What in a Python source could run code that it reads from a file: read from the syntax tree."""

import ast

PICKLING = (
    *("pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"),
    *("pandas.compat.pickle_compat", "torch.package", "jsonpickle", "cloudpickle_fast"),
)
UNPICKLING = {
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.save", "torch.export.load"),
    *("pandas.read_pickle", "pandas.read_hdf", "pandas.HDFStore"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "code.interact"),
    *("runpy.run_path", "runpy.run_module", "importlib.util.spec_from_file_location"),
}
METHODS = {"load_state", "save_state", "read_pickle", "read_hdf", "to_pickle", "to_hdf"}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
READERS = ("from_pretrained", "from_config", "load_checkpoint_and_dispatch")


def dangers(source):
    """One line for each place in `source` that unpickles, or runs what a file says."""
    tree = ast.parse(source)
    names, safe = _names(tree), set(SAFE_LOADERS)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and safe & {_dotted(base, names) for base in node.bases}:
            safe.add(node.name)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(node, f"imports {name}") for name in _imported(node) if _pickles(name)]
        elif isinstance(node, ast.Call):
            found += [(node, line) for line in _of_call(node, _dotted(node.func, names), safe)]
        elif isinstance(node, ast.Attribute) and _dotted(node, names) in UNPICKLING:
            found.append((node, f"names {_dotted(node, names)}"))
    return [f"line {node.lineno} {line}" for node, line in found]


def _imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _pickles(name):
    return name in UNPICKLING or any(f"{name}.".startswith(f"{module}.") for module in PICKLING)


def _names(tree):
    """What each imported name of the file stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def _dotted(node, names):
    """`np.load` as numpy.load; the last part alone where what comes before is no plain name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


def _of_call(node, name, safe):
    """What is wrong with one call of the function called `name`."""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    constant = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
    method = name.rpartition(".")[2]
    if (name in UNPICKLING and isinstance(node.func, ast.Name)) or method in METHODS:
        yield f"calls {name}"
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", node.args[1] if len(node.args) > 1 else None)
        if not isinstance(loader, ast.Name | ast.Attribute) or ast.unparse(loader) not in safe:
            yield f"calls {name} without a safe loader"
    for key, harmless in (("allow_pickle", False), ("shell", False), ("weights_only", True)):
        if key in given and constant.get(key) is not harmless:
            yield f"calls {name} with {key}={ast.unparse(given[key])}"
    if method in READERS:
        yield from (f"calls {name} without {lack}" for lack in _unguarded(name, given, constant))


def _unguarded(name, given, constant):
    """What a call into transformers lacks."""
    if "trust_remote_code" not in given or constant.get("trust_remote_code"):
        yield "a trust_remote_code that is off or asked for"
    if name.endswith(".from_config"):
        return
    if constant.get("local_files_only") is not True:
        yield "local_files_only=True"
    describing = "AutoConfig." in name or "Tokenizer" in name  # they hold no weights
    if not describing and constant.get("use_safetensors") is not True:
        yield "use_safetensors=True"
