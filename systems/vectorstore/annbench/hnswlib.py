"""hnswlib with one thread: builds at start, then answers each "ef" line on
stdin with the seconds that all queries took and a file of the found labels."""

import json
import sys
import time

import hnswlib
import numpy

base, queries, found, dim, m, ef_construction, k = sys.argv[1:4] + [int(x) for x in sys.argv[4:]]
data = numpy.fromfile(base, dtype=numpy.float32).reshape(-1, dim)
asked = numpy.fromfile(queries, dtype=numpy.float32).reshape(-1, dim)

index = hnswlib.Index(space="cosine", dim=dim)
index.init_index(max_elements=len(data), M=m, ef_construction=ef_construction, random_seed=1)
index.set_num_threads(1)
began = time.perf_counter()
index.add_items(data, num_threads=1)
print(json.dumps({"seconds": time.perf_counter() - began, "version": getattr(hnswlib, "__version__", "")}), flush=True)

for line in sys.stdin:
    index.set_ef(int(line))
    began = time.perf_counter()
    labels, _ = index.knn_query(asked, k=k, num_threads=1)
    seconds = time.perf_counter() - began
    labels.astype("<u4").tofile(found)
    print(json.dumps({"seconds": seconds}), flush=True)
