"""The bench from Python: what `import bangbench` offers. Nothing here prints, and no call leaves a trace in a model."""

# first: it keeps tqdm, which others import too, from warning of notebooks without widgets
from bangbench.interface import progress as progress
