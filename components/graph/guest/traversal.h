// Traversals that can stop and go on: what they have found stands in order, and
// the marks say what needs no second look.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef TREE_SET
#include "treeset.h"
#endif

// The edges of node n are cols[rows[n]] to cols[rows[n + 1]], without the last.
struct graph {
	const uint32_t *rows, *cols;
	uint32_t nodes;
};

enum algorithm {
	BFS,
	DFS
};

struct query {
	uint32_t root, algorithm, depth_max, results_max, position, chunk_len_max, documents;
};

struct traversal {
	struct query query;
	uint64_t used_at; // 0: never
	uint32_t *order;  // nodes found, in order, without the root; room for one more than all
	uint32_t found, limit, sent;
	bool complete;
	// BFS: the next node to look behind, the end of its level, its distance.
	uint32_t head, level_end, depth;
	// DFS: the edges left to look at, on the way from the root.
	struct {
		const uint32_t *at, *end;
	} path[255];
	uint32_t height;
	// BFS: a bit for each node that was found. DFS: a byte, the smallest
	// distance that the node was met at, plus one.
	uint8_t *marks;
};

static uint64_t marks_len(uint32_t nodes)
{
#ifdef TREE_SET
	return tree_len(nodes);
#else
	return (uint64_t)nodes + 4;
#endif
}

static inline uint32_t results(const struct traversal *t)
{
	return t->found < t->limit ? t->found : t->limit;
}

static bool same(const struct query *a, const struct query *b)
{
	return a->root == b->root && a->algorithm == b->algorithm && a->depth_max == b->depth_max &&
	       a->results_max == b->results_max;
}

#ifdef TREE_SET
static void clear(const struct graph *graph, struct traversal *t)
{
	(void)graph, (void)t; // a search makes its set, and begin() the bytes of DFS
}

static uint32_t look_at(const uint32_t *at, const uint32_t *end, uint32_t *order, uint32_t found,
			struct tree *seen)
{
	for (; at < end; at++)
		if (tree_insert(seen, *at))
			order[found++] = *at;
	return found;
}
#else
// clear takes back the marks: one by one when they are few.
static void clear(const struct graph *graph, struct traversal *t)
{
	if (t->used_at == 0)
		return;
	uint32_t len = t->query.algorithm == BFS ? (graph->nodes + 31) / 32 * 4 : graph->nodes;
	if (t->found > len / 64) {
		__builtin_memset(t->marks, 0, len);
		return;
	}
	uint32_t shift = t->query.algorithm == BFS ? 3 : 0;
	t->marks[t->query.root >> shift] = 0;
	for (uint32_t i = 0; i < t->found; i++)
		t->marks[t->order[i] >> shift] = 0;
}

// look_at marks the nodes from at to end and appends the new ones. It writes
// each and counts it only if it is new: a branch here would be wrong half of
// the time.
static inline uint32_t look_at(const uint32_t *at, const uint32_t *end, uint32_t *order,
			       uint32_t found, uint32_t *bits)
{
#define LOOK(node)                                                                                 \
	do {                                                                                       \
		uint32_t n = (node), word = bits[n >> 5], shift = n & 31;                          \
		order[found] = n;                                                                  \
		bits[n >> 5] = word | 1u << shift;                                                 \
		found += ~(word >> shift) & 1;                                                     \
	} while (0)
	for (; end - at >= 4; at += 4) {
		LOOK(at[0]);
		LOOK(at[1]);
		LOOK(at[2]);
		LOOK(at[3]);
	}
	// No loop for the rest: rows are short, and each turn costs fuel.
	if ((end - at) & 2) {
		LOOK(at[0]);
		LOOK(at[1]);
		at += 2;
	}
	if (at < end)
		LOOK(*at);
#undef LOOK
	return found;
}
#endif

static void bfs_look_behind(const struct graph *graph, struct traversal *t, uint32_t node)
{
	t->found = look_at(graph->cols + graph->rows[node], graph->cols + graph->rows[node + 1],
			   t->order, t->found, (void *)t->marks);
}

static void begin(const struct graph *graph, struct traversal *t, const struct query *query)
{
	clear(graph, t);
	t->query = *query;
	t->limit = query->results_max != 0 ? query->results_max : UINT32_MAX;
	t->found = t->sent = t->head = t->height = 0;
	t->complete = false;
	if (query->algorithm == BFS) {
#ifdef TREE_SET
		tree_clear((struct tree *)t->marks);
		tree_insert((struct tree *)t->marks, query->root);
#else
		t->marks[query->root >> 3] |= 1u << (query->root & 7);
#endif
		t->depth = 0;
		t->level_end = 0;
		return;
	}
#ifdef TREE_SET
	__builtin_memset(t->marks, 0, graph->nodes);
#endif
	t->marks[query->root] = 1;
	t->path[0].at = graph->cols + graph->rows[query->root];
	t->path[0].end = graph->cols + graph->rows[query->root + 1];
	t->height = 1;
}

// advance_bfs goes on until so many are found or the work is done.
static void advance_bfs(const struct graph *graph, struct traversal *t, uint32_t wanted,
			int64_t *work)
{
	if (t->depth == 0) {
		bfs_look_behind(graph, t, t->query.root);
		t->depth = 1;
		t->level_end = t->found;
	}
	while (t->found < wanted && *work > 0) {
		if (t->head == t->level_end) {
			t->level_end = t->found;
			t->depth++;
		}
		if (t->head == t->found || t->depth > t->query.depth_max - 1) {
			t->complete = true;
			return;
		}
		uint32_t node = t->order[t->head++];
		*work -= graph->rows[node + 1] - graph->rows[node] + 1;
		bfs_look_behind(graph, t, node);
	}
}

// advance_dfs meets a node again where that brings it nearer to the root: what
// lies behind it may then be near enough.
static void advance_dfs(const struct graph *graph, struct traversal *t, uint32_t wanted,
			int64_t *work)
{
	while (t->found < wanted && (*work)-- > 0) {
		while (t->height > 0 && t->path[t->height - 1].at == t->path[t->height - 1].end)
			t->height--;
		uint32_t depth = t->height;
		if (depth == 0) {
			t->complete = true;
			return;
		}
		uint32_t node = *t->path[depth - 1].at++;
		uint8_t before = t->marks[node];
		if (before != 0 && before <= depth + 1)
			continue;
		t->marks[node] = depth + 1;
		if (before == 0)
			t->order[t->found++] = node;
		if (depth < t->query.depth_max) {
			t->path[depth].at = graph->cols + graph->rows[node];
			t->path[depth].end = graph->cols + graph->rows[node + 1];
			t->height = depth + 1;
		}
	}
}

static void advance(const struct graph *graph, struct traversal *t, uint32_t wanted, int64_t *work)
{
	if (wanted > t->limit)
		wanted = t->limit;
	if (t->query.algorithm == BFS)
		advance_bfs(graph, t, wanted, work);
	else
		advance_dfs(graph, t, wanted, work);
	if (t->found >= t->limit)
		t->complete = true;
}
