// The guest of components/graph: one tenant's graph in compressed sparse rows,
// with a document at every node, inside its linear memory. graph.wit beside it
// is its interface; the exports follow that interface's canonical ABI, the
// image is described in graph.go.
//
// Loops handle several items per turn: the host charges fuel for each turn.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#include "traversal.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define QUERIES	     "nexus:graph/queries@1.0.0#"

enum {
	CHUNK_LEN_MAX = 64 << 10,
	DOCUMENT_LEN_MAX = CHUNK_LEN_MAX - 16,
	CURSORS_MAX = 64,
	DEPTH_MAX = 254,
	COPY_LEN = 64,		// documents are copied in pieces of so many bytes
	AHEAD = 16,		// documents that are looked up together
	WORK_PER_CALL = 1 << 21 // edges that one call looks at, about
};
enum refusal {
	NONE,
	NOT_LOADED,
	MALFORMED_IMAGE,
	MALFORMED_QUERY,
	UNKNOWN_NODE,
	SMALL_CHUNK,
	FULL,
	TOO_LARGE
};

struct image {
	uint32_t magic, version, crc, len;
	uint32_t nodes, edges;
	uint32_t rows_at, cols_at, docs_at, arena_at, arena_len;
	uint32_t zero[5];
};
_Static_assert(sizeof(struct image) == 64, "image header");

struct chunk {
	uint32_t results, next;
	const uint8_t *records;
	uint32_t records_len;
	uint8_t done, refusal, padding[2];
};
_Static_assert(sizeof(struct chunk) == 20, "canonical ABI of chunk");

struct arena {
	uint32_t used, live, room, repacks;
};

struct edges {
	const uint32_t *nodes;
	uint32_t count;
};

struct text {
	const uint8_t *bytes;
	uint32_t len;
};

// What precedes every document in the arena, and in a chunk.
struct document {
	uint32_t node, len;
	uint8_t bytes[];
};

static struct graph graph;
static uint32_t *docs; // of each node, where in the arena its document is
static uint8_t *bytes; // the arena's
static struct arena arena;
static struct traversal *cursors;
static uint32_t cursor_count;
static uint64_t clock;

extern uint8_t __heap_base;
static uint8_t *heap = &__heap_base;

static _Alignas(16) uint8_t input[DOCUMENT_LEN_MAX + 16];
static _Alignas(16) uint8_t output[CHUNK_LEN_MAX + COPY_LEN];
static struct chunk chunk;
static struct edges edges;
static struct text text;

// allocate takes memory that is never given back. Fresh memory is zero.
static void *allocate(uint64_t len)
{
	uint64_t start = ((uintptr_t)heap + 15) & ~15ull, end = start + len;
	uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
	if (end > UINT32_MAX)
		__builtin_trap();
	if (end > have && __builtin_wasm_memory_grow(0, (end - have + 0xffff) >> 16) == SIZE_MAX)
		__builtin_trap();
	heap = (uint8_t *)(uintptr_t)end;
	return (void *)(uintptr_t)start;
}

// cabi_realloc is how the host asks for room for arguments: the image lies at
// the start of the heap, for good; a document where the last one lay.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size)
{
	if (old != NULL || old_size != 0 || align > 16)
		__builtin_trap();
	if (graph.rows == NULL)
		return allocate(size);
	if (size > sizeof input)
		__builtin_trap();
	return input;
}

static uint32_t padded(uint32_t len)
{
	return (len + 3) & ~3u;
}

static uint32_t aligned(uint32_t at)
{
	return (at + 15) & ~15u;
}

static struct document *document_at(uint32_t at)
{
	return (struct document *)(bytes + at);
}

static uint32_t span(const struct document *document)
{
	return sizeof *document + padded(document->len);
}

// columns_below says whether all numbers are below the limit.
static bool columns_below(const uint32_t *cols, uint32_t count, uint32_t limit)
{
	v128_t most = wasm_i32x4_const(0, 0, 0, 0);
	for (; count >= 16; cols += 16, count -= 16) {
		v128_t a = wasm_u32x4_max(wasm_v128_load(cols), wasm_v128_load(cols + 4));
		v128_t b = wasm_u32x4_max(wasm_v128_load(cols + 8), wasm_v128_load(cols + 12));
		most = wasm_u32x4_max(most, wasm_u32x4_max(a, b));
	}
	if (wasm_v128_any_true(wasm_u32x4_ge(most, wasm_i32x4_splat(limit))) && limit != 0)
		return false;
	for (; count > 0; cols++, count--)
		if (*cols >= limit)
			return false;
	return true;
}

// layout_holds checks the header: every section stands where its size and the
// sections before it put it.
static bool layout_holds(const struct image *image, uint32_t len)
{
	if (len < sizeof *image || image->magic != 0x5247584e || image->version != 1 ||
	    image->len != len)
		return false;
	uint64_t cols_at = aligned(sizeof *image + 4 * (image->nodes + 1));
	uint64_t docs_at = cols_at + ((4ull * image->edges + 15) & ~15ull);
	uint64_t arena_at = docs_at + ((4ull * image->nodes + 15) & ~15ull);
	return image->nodes <= len / 4 && image->rows_at == sizeof *image &&
	       image->cols_at == cols_at && image->docs_at == docs_at &&
	       image->arena_at == arena_at && arena_at + image->arena_len == len;
}

// rows_hold checks that rows follow each other and end with the columns.
static bool rows_hold(const uint32_t *rows, uint32_t nodes, uint32_t edges)
{
	for (uint32_t i = 0; i < nodes; i++)
		if (rows[i] > rows[i + 1])
			return false;
	return rows[0] == 0 && rows[nodes] == edges;
}

// documents_hold walks the arena: whole documents, one current one of each node.
static bool documents_hold(uint32_t nodes, uint32_t len)
{
	uint32_t current = 0;
	for (uint32_t at = 0; at < len;) {
		const struct document *document = document_at(at);
		if (len - at < sizeof *document || document->len > DOCUMENT_LEN_MAX ||
		    span(document) > len - at)
			return false;
		if (document->node < nodes && docs[document->node] == at) {
			current++;
			arena.live += sizeof *document + document->len;
		}
		at += span(document);
	}
	return current == nodes;
}

EXPORT(QUERIES "load")
uint32_t load(uint8_t *at, uint32_t len, uint32_t growth, uint32_t cursors_wanted)
{
	const struct image *image = (const struct image *)at;
	if (graph.rows != NULL || !layout_holds(image, len) || cursors_wanted == 0 ||
	    cursors_wanted > CURSORS_MAX)
		return MALFORMED_IMAGE;
	const uint32_t *rows = (const uint32_t *)(at + image->rows_at);
	const uint32_t *cols = (const uint32_t *)(at + image->cols_at);
	docs = (uint32_t *)(at + image->docs_at);
	bytes = at + image->arena_at;
	arena.live = 0;
	if (!rows_hold(rows, image->nodes, image->edges) ||
	    !columns_below(cols, image->edges, image->nodes) ||
	    !documents_hold(image->nodes, image->arena_len))
		return MALFORMED_IMAGE;
	arena.used = image->arena_len;
	arena.room = image->arena_len + growth;
	// The arena lies at the end of the image and grows behind it; reading a
	// document in whole pieces may look beyond it.
	allocate((uint64_t)growth + COPY_LEN);
	cursor_count = cursors_wanted;
	cursors = allocate(sizeof *cursors * (uint64_t)cursor_count);
	for (uint32_t i = 0; i < cursor_count; i++) {
		cursors[i].order = allocate(4ull * (image->nodes + 1));
		cursors[i].marks = allocate(marks_len(image->nodes));
	}
	graph = (struct graph){rows, cols, image->nodes};
	return NONE;
}

static bool fits(const struct query *query)
{
	return query->algorithm <= DFS && query->depth_max >= 1 && query->depth_max <= DEPTH_MAX &&
	       query->chunk_len_max <= CHUNK_LEN_MAX;
}

// resume finds the traversal that stopped where the query goes on. Where there
// is none, it was given up for others: then the oldest begins it again.
static struct traversal *resume(const struct query *query)
{
	struct traversal *oldest = &cursors[0];
	for (uint32_t i = 0; i < cursor_count; i++) {
		struct traversal *t = &cursors[i];
		if (query->position != 0 && t->used_at != 0 && t->sent == query->position &&
		    same(&t->query, query))
			return t;
		if (t->used_at < oldest->used_at)
			oldest = t;
	}
	begin(&graph, oldest, query);
	return oldest;
}

// append_document copies a document, and perhaps some bytes behind it.
static inline void append_document(uint8_t *to, const struct document *document, uint32_t len)
{
	const uint8_t *from = (const uint8_t *)document;
	for (uint32_t at = 0; at < len; at += COPY_LEN) {
		v128_t a = wasm_v128_load(from + at), b = wasm_v128_load(from + at + 16);
		v128_t c = wasm_v128_load(from + at + 32), d = wasm_v128_load(from + at + 48);
		wasm_v128_store(to + at, a);
		wasm_v128_store(to + at + 16, b);
		wasm_v128_store(to + at + 32, c);
		wasm_v128_store(to + at + 48, d);
	}
}

// emit puts what was found and not yet sent into the chunk, as far as it fits.
static uint8_t *emit(struct traversal *t, uint8_t *to, const uint8_t *end, bool documents)
{
	uint32_t found = results(t);
	if (t->sent >= found)
		return to;
	if (!documents) {
		uint32_t count = found - t->sent, room = (uint32_t)(end - to) / 4;
		count = count < room ? count : room;
		__builtin_memcpy(to, t->order + t->sent, 4 * count);
		t->sent += count;
		return to + 4 * count;
	}
	while (t->sent < found) {
		// The headers of several documents are asked for before the first is
		// needed: each is likely to be far away.
		const struct document *next[AHEAD];
		uint32_t lens[AHEAD], count = found - t->sent < AHEAD ? found - t->sent : AHEAD;
		for (uint32_t i = 0; i < count; i++) {
			next[i] = document_at(docs[t->order[t->sent + i]]);
			lens[i] = span(next[i]);
		}
		for (uint32_t i = 0; i < count; i++, t->sent++) {
			if (lens[i] > (uint32_t)(end - to))
				return to;
			append_document(to, next[i], lens[i]);
			to += lens[i];
		}
	}
	return to;
}

// fill makes the chunk that the query asks for: it sends what is found, and
// looks for no more than might still fit, but for one more in any case: whether
// there is one says whether the chunk is the last.
static void fill(struct traversal *t, const struct query *query)
{
	const uint8_t *end = output + query->chunk_len_max;
	uint8_t *to = output;
	uint32_t record_len_min = query->documents ? sizeof(struct document) : 4;
	int64_t work = WORK_PER_CALL;
	t->sent = query->position;
	for (;;) {
		to = emit(t, to, end, query->documents);
		if (t->sent < results(t) || t->complete || work <= 0)
			break;
		uint32_t more = (uint32_t)(end - to) / record_len_min;
		advance(&graph, t, t->sent + (more != 0 ? more : 1), &work);
	}
	chunk.records_len = to - output;
	chunk.results = t->sent - query->position;
	chunk.next = t->sent;
	chunk.done = t->complete && t->sent >= results(t);
	if (to == output && t->sent < results(t))
		chunk.refusal = SMALL_CHUNK;
}

EXPORT(QUERIES "run")
struct chunk *run(uint32_t root, uint32_t algorithm, uint32_t depth_max, uint32_t results_max,
		  uint32_t position, uint32_t chunk_len_max, uint32_t documents)
{
	struct query query = {root,	algorithm,     depth_max, results_max,
			      position, chunk_len_max, documents};
	chunk = (struct chunk){.records = output};
	if (graph.rows == NULL)
		chunk.refusal = NOT_LOADED;
	else if (!fits(&query))
		chunk.refusal = MALFORMED_QUERY;
	else if (root >= graph.nodes)
		chunk.refusal = UNKNOWN_NODE;
	if (chunk.refusal != NONE)
		return &chunk;
	struct traversal *t = resume(&query);
	t->used_at = ++clock;
	fill(t, &query);
	return &chunk;
}

// A document that left its place stays in the arena, dead, until the repack.
EXPORT(QUERIES "repack")
void repack(void)
{
	uint32_t to = 0;
	for (uint32_t at = 0; at < arena.used;) {
		const struct document *document = document_at(at);
		uint32_t len = span(document), node = document->node;
		if (node < graph.nodes && docs[node] == at) {
			if (to != at)
				__builtin_memmove(bytes + to, document, len);
			docs[node] = to;
			to += len;
		}
		at += len;
	}
	arena.used = to;
	arena.repacks++;
}

static void put(struct document *document, uint32_t node, const uint8_t *from, uint32_t len)
{
	document->node = node;
	document->len = len;
	__builtin_memcpy(document->bytes, from, len);
	__builtin_memset(document->bytes + len, 0, padded(len) - len);
}

EXPORT(QUERIES "update")
uint32_t update(uint32_t node, const uint8_t *from, uint32_t len)
{
	if (graph.rows == NULL)
		return NOT_LOADED;
	if (node >= graph.nodes)
		return UNKNOWN_NODE;
	if (len > DOCUMENT_LEN_MAX)
		return TOO_LARGE;
	struct document *document = document_at(docs[node]);
	uint32_t need = sizeof *document + padded(len), old_len = document->len;
	if (padded(len) != padded(old_len)) {
		if (need > arena.room - arena.used)
			repack();
		if (need > arena.room - arena.used)
			return FULL;
		document = document_at(arena.used);
		docs[node] = arena.used;
		arena.used += need;
	}
	put(document, node, from, len);
	arena.live += len - old_len;
	return NONE;
}

EXPORT(QUERIES "measure")
struct arena *measure(void)
{
	return &arena;
}

EXPORT(QUERIES "edges")
struct edges *edges_of(uint32_t node)
{
	edges = (struct edges){0};
	if (node < graph.nodes) {
		edges.nodes = graph.cols + graph.rows[node];
		edges.count = graph.rows[node + 1] - graph.rows[node];
	}
	return &edges;
}

EXPORT(QUERIES "document")
struct text *document_of(uint32_t node)
{
	text = (struct text){0};
	if (node < graph.nodes) {
		const struct document *document = document_at(docs[node]);
		text.bytes = document->bytes;
		text.len = document->len;
	}
	return &text;
}
