package rocksprobe

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// place is where a function of a build is: by symbol, or by class and slot.
type place struct {
	Symbol string
	Class  string // mangled name of the typeinfo
	Slot   int
}

// Layout is what the probe has to know of one build of RocksDB. It holds for
// that build alone: where things lie changes with versions and compilers, and a
// probe at a wrong place would read whatever is there.
type Layout struct {
	BuildID string
	Name    string
	// BatchTextAt is where in a WriteBatch its std::string lies, which begins
	// with pointer and length in GNU's library.
	BatchTextAt uint64
	// writes are the functions with the signature of DB::Write (status by hidden
	// pointer, this, options, batch, ...) that between them see every write once.
	writes []place
	// For the census.
	puts, commits, rollbacks []place
	// SurrealKeys says that keys are SurrealDB's.
	SurrealKeys bool
}

// Layouts returns the builds that were tried, each by the tests of this package
// or of systems/surreal.
func Layouts() []Layout { return slices.Clone(layouts) }

var layouts = []Layout{
	{
		BuildID: "1fb6630f10ee3a7ca9575e23aef9367b40af111e", Name: "RocksDB 10.6.2 in SurrealDB 3.0.2, npm @surrealdb/node@3.0.3 (linux-x64-gnu)", BatchTextAt: 128,
		writes:      []place{{Class: "N7rocksdb6DBImplE", Slot: 31}}, // Write
		puts:        []place{{Class: "N7rocksdb10WriteBatchE", Slot: 2}},
		commits:     []place{{Class: "N7rocksdb21OptimisticTransactionE", Slot: 8}},
		rollbacks:   []place{{Class: "N7rocksdb21OptimisticTransactionE", Slot: 9}},
		SurrealKeys: true,
	},
	{
		BuildID: "cb4c0e6449665561835c19fc7d5312f17836bf22", Name: "RocksDB 7.8.3 of Debian 12 (amd64)", BatchTextAt: 64,
		writes:    []place{{Symbol: "_ZN7rocksdb6DBImpl9WriteImplERKNS_12WriteOptionsEPNS_10WriteBatchEPNS_13WriteCallbackEPmmbS8_mPNS_18PreReleaseCallbackEPNS_20PostMemTableCallbackE"}},
		puts:      []place{{Symbol: "_ZN7rocksdb10WriteBatch3PutEPNS_18ColumnFamilyHandleERKNS_5SliceES5_"}},
		commits:   []place{{Symbol: "_ZN7rocksdb21OptimisticTransaction6CommitEv"}, {Symbol: "_ZN7rocksdb22PessimisticTransaction6CommitEv"}},
		rollbacks: []place{{Symbol: "_ZN7rocksdb21OptimisticTransaction8RollbackEv"}, {Symbol: "_ZN7rocksdb22PessimisticTransaction8RollbackEv"}},
	},
}

// ErrUnknownBuild says that the probe doesn't know a build.
var ErrUnknownBuild = errors.New("the probe does not know this build of RocksDB")

// Target is a file with a RocksDB in it, and where in it to hook.
type Target struct {
	Path   string
	Layout Layout
	// File offsets of the functions.
	Writes, Puts, Commits, Rollbacks []uint64
}

// Resolve looks into an ELF file (a shared library, a native addon or a
// program), finds its build in the table and the functions in the file. It
// refuses with ErrUnknownBuild a build that is not in the table, and with
// ErrNotFound one whose functions are not where the table says.
func Resolve(path string) (Target, error) { return resolve(path, layouts) }

func resolve(path string, known []Layout) (Target, error) {
	f, err := os.Open(path)
	if err != nil {
		return Target{}, fmt.Errorf("look for RocksDB: %w", err)
	}
	defer f.Close()
	im, err := openImage(f)
	if err != nil {
		return Target{}, fmt.Errorf("look for RocksDB in %s: %w", path, err)
	}
	target := Target{Path: path}
	if target.Layout, err = layoutOf(im, known); err != nil {
		return Target{}, fmt.Errorf("look for RocksDB in %s: %w", path, err)
	}
	if err := target.locate(im); err != nil {
		return Target{}, fmt.Errorf("look for RocksDB in %s (%s): %w", path, target.Layout.Name, err)
	}
	return target, nil
}

func layoutOf(im *image, known []Layout) (Layout, error) {
	id := im.buildID()
	if id == "" {
		return Layout{}, fmt.Errorf("%w: it has no build id", ErrUnknownBuild)
	}
	for _, l := range known {
		if l.BuildID == id {
			return l, nil
		}
	}
	return Layout{}, fmt.Errorf("%w: build id %s; known are %s", ErrUnknownBuild, id, names(known))
}

func names(known []Layout) string {
	text := ""
	for i, l := range known {
		if i > 0 {
			text += ", "
		}
		text += l.Name
	}
	return text
}

func (t *Target) locate(im *image) error {
	tables := map[string][]uint64{}
	for _, group := range []struct {
		places  []place
		offsets *[]uint64
	}{{t.Layout.writes, &t.Writes}, {t.Layout.puts, &t.Puts}, {t.Layout.commits, &t.Commits}, {t.Layout.rollbacks, &t.Rollbacks}} {
		for _, p := range group.places {
			offset, err := locate(im, p, tables)
			if err != nil {
				return err
			}
			*group.offsets = append(*group.offsets, offset)
		}
	}
	return nil
}

func locate(im *image, p place, tables map[string][]uint64) (uint64, error) {
	if p.Symbol != "" {
		return im.symbol(p.Symbol)
	}
	table, read := tables[p.Class]
	if !read {
		var err error
		if table, err = im.vtable(p.Class); err != nil {
			return 0, err
		}
		tables[p.Class] = table
	}
	if p.Slot >= len(table) {
		return 0, fmt.Errorf("slot %d of class %s, which has %d: %w", p.Slot, p.Class, len(table), ErrNotFound)
	}
	return table[p.Slot], nil
}
