package vectorstore

import (
	"encoding/binary"
	"fmt"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// opKind is what a record of the log, or of a snapshot, does.
type opKind uint8

const (
	opCreateCollection opKind = iota + 1
	opDeleteCollection
	opUpsert
	opUpdateVectors
	opDelete
	opSetPayload
	opOverwritePayload
	opDeletePayload
	opClearPayload
	opCreateIndex
	opDeleteIndex
	opUpdateCollection
	opBatch // several of the others
	opLast
)

// CollectionConfig is fixed when a collection is created, but for
// IndexFromBytes.
type CollectionConfig struct {
	Dim    int
	Metric vectors.Metric
	// Int8 searches the graph by int8 distances and orders its candidates by
	// f32 ones; both are kept in memory.
	Int8 bool
	// M and EfConstruction are the graph's; 0: the defaults of package hnsw.
	M, EfConstruction int
	// IndexFromBytes is the size of all vectors from which on they are indexed;
	// smaller collections are scanned. 0: DefaultIndexFromBytes; negative: never
	// index.
	IndexFromBytes int64
}

// DefaultIndexFromBytes is where a graph begins to pay: a scan of as much takes
// about a millisecond.
const DefaultIndexFromBytes = 10 << 20

// IndexType is which values of a payload key an index holds. Filters on ranges
// are not looked up: for IndexFloat and IndexDatetime points are only counted.
type IndexType uint8

const (
	IndexKeyword IndexType = iota // strings
	IndexInteger
	IndexBool
	IndexUUID     // strings
	IndexFloat    // numbers
	IndexDatetime // RFC 3339 strings
	indexTypes
)

// Selector is the points of a list or all that meet a filter.
type Selector struct {
	IDs      []PointID
	ByFilter bool
	Filter   *Filter
}

// op is one change. Which fields count depends on the kind.
type op struct {
	kind       opKind
	collection string
	config     CollectionConfig // create, update
	points     []Point          // upsert, update vectors; vectors are as a table keeps them
	selector   Selector         // delete and payload changes
	payload    Payload          // set, overwrite
	keys       []string         // set: at this path (at most one); delete payload; index
	indexType  IndexType
	batch      []*op
}

func (o *op) encode(dst []byte) ([]byte, error) {
	dst = appendString(append(dst, byte(o.kind)), o.collection)
	var err error
	switch o.kind {
	case opCreateCollection, opUpdateCollection:
		c := o.config
		dst = binary.AppendUvarint(dst, uint64(c.Dim))
		dst = append(dst, byte(c.Metric), flag(c.Int8))
		dst = binary.AppendUvarint(dst, uint64(c.M))
		dst = binary.AppendUvarint(dst, uint64(c.EfConstruction))
		dst = binary.AppendVarint(dst, c.IndexFromBytes)
	case opUpsert, opUpdateVectors:
		dst = binary.AppendUvarint(dst, uint64(len(o.points)))
		for _, p := range o.points {
			if dst, err = appendPoint(dst, p); err != nil {
				return nil, err
			}
		}
	case opDelete, opSetPayload, opOverwritePayload, opDeletePayload, opClearPayload:
		if dst, err = o.selector.encode(dst); err != nil {
			return nil, err
		}
		if dst, err = appendValue(dst, map[string]any(o.payload), 0); err != nil {
			return nil, err
		}
		dst = appendStrings(dst, o.keys)
	case opCreateIndex, opDeleteIndex:
		dst = append(appendStrings(dst, o.keys), byte(o.indexType))
	case opBatch:
		dst = binary.AppendUvarint(dst, uint64(len(o.batch)))
		for _, inner := range o.batch {
			encoded, err := inner.encode(nil)
			if err != nil {
				return nil, err
			}
			dst = appendString(dst, string(encoded))
		}
	}
	return dst, nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendString(dst, s)
	}
	return dst
}

func (s *Selector) encode(dst []byte) ([]byte, error) {
	dst = binary.AppendUvarint(append(dst, flag(s.ByFilter)), uint64(len(s.IDs)))
	for _, id := range s.IDs {
		dst = appendID(dst, id)
	}
	if !s.ByFilter {
		return dst, nil
	}
	return appendValue(dst, s.Filter.tree(), 0)
}

func decodeOp(src []byte) (*op, error) {
	d := &decoder{src: src}
	o := &op{kind: opKind(d.byte()), collection: d.string()}
	if o.kind == 0 || o.kind >= opLast {
		d.fail("operation %d", o.kind)
	}
	switch o.kind {
	case opCreateCollection, opUpdateCollection:
		o.config = CollectionConfig{Dim: int(d.uvarint()), Metric: vectors.Metric(d.byte()), Int8: d.byte() != 0,
			M: int(d.uvarint()), EfConstruction: int(d.uvarint()), IndexFromBytes: d.varint()}
		if err := o.config.check(); err != nil && o.kind == opCreateCollection {
			d.fail("%v", err)
		}
	case opUpsert, opUpdateVectors:
		o.points = make([]Point, 0, d.count(4))
		for range cap(o.points) {
			o.points = append(o.points, d.point())
		}
	case opDelete, opSetPayload, opOverwritePayload, opDeletePayload, opClearPayload:
		o.selector = d.selector()
		o.payload = d.payload()
		o.keys = d.strings()
	case opCreateIndex, opDeleteIndex:
		o.keys = d.strings()
		if o.indexType = IndexType(d.byte()); o.indexType >= indexTypes {
			d.fail("index of type %d", o.indexType)
		}
	case opBatch:
		for range d.count(3) {
			inner, err := decodeOp(d.take(d.uvarint()))
			if err != nil || inner.kind == opBatch {
				d.fail("operation in a batch: %v", err)
				break
			}
			o.batch = append(o.batch, inner)
		}
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("operation of kind %d: %w", o.kind, err)
	}
	return o, nil
}

func (d *decoder) strings() []string {
	out := make([]string, d.count(1))
	for i := range out {
		out[i] = d.string()
	}
	return out
}

func (d *decoder) selector() Selector {
	s := Selector{ByFilter: d.byte() != 0}
	n := d.count(2)
	for range n {
		s.IDs = append(s.IDs, d.id())
	}
	if s.ByFilter {
		s.Filter = treeReader{d}.filter(d.value(0), 0)
	}
	return s
}

// check refuses what no collection can be.
func (c CollectionConfig) check() error {
	if _, err := c.newTable(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	table, _ := vectors.NewTable(1, c.Metric, false)
	if _, err := hnsw.New(table, hnsw.Options{M: c.M, EfConstruction: c.EfConstruction}); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (c CollectionConfig) newTable() (*vectors.Table, error) {
	return vectors.NewTable(c.Dim, c.Metric, c.Int8)
}
