package rocksprobe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// The walk is tested on files of a few hundred bytes that are made here, field by
// field, and on what a linker made of target.c.

// piece is what an image of the tests holds: data at addresses and pointers.
type piece struct {
	data map[uint64][]byte
	// relative are R_X86_64_RELATIVE relocations, from address to address.
	relative map[uint64]uint64
	machine  uint16
	note     []byte
}

const (
	codeAt = 0x1000
	dataAt = 0x2000
	relaAt = 0x3000
)

// build makes an ELF file: code and data of a page each, then the relocations and
// the section header that shows them.
func (p piece) build() []byte {
	le := binary.LittleEndian
	file := make([]byte, 0x4000)
	copy(file, "\x7fELF\x02\x01\x01")
	le.PutUint16(file[16:], 3) // shared object
	le.PutUint16(file[18:], p.machine)
	le.PutUint32(file[20:], 1)
	le.PutUint64(file[32:], 64)     // program headers
	le.PutUint64(file[40:], 0x3800) // section headers
	for i, n := range []uint16{64, 56, 3, 64, 2, 0} {
		le.PutUint16(file[52+2*i:], n)
	}
	segment := func(i int, kind, flags uint32, at, n uint64) {
		h := file[64+56*i:]
		le.PutUint32(h, kind)
		le.PutUint32(h[4:], flags)
		for j, v := range []uint64{at, at, at, n, n, 0x1000} {
			le.PutUint64(h[8+8*j:], v)
		}
	}
	segment(0, 1, 5, codeAt, 0x1000)
	segment(1, 1, 6, dataAt, 0x1000)
	segment(2, 4, 4, 0x3c00, uint64(len(p.note)))
	copy(file[0x3c00:], p.note)
	for at, data := range p.data {
		copy(file[at:], data)
	}
	at := uint64(relaAt)
	for from, to := range p.relative {
		le.PutUint64(file[at:], from)
		le.PutUint64(file[at+8:], 8)
		le.PutUint64(file[at+16:], to)
		at += 24
	}
	h := file[0x3800+64:]
	le.PutUint32(h[4:], 4) // SHT_RELA
	le.PutUint64(h[8:], 2) // SHF_ALLOC
	le.PutUint64(h[24:], relaAt)
	le.PutUint64(h[32:], at-relaAt)
	return file
}

// class is one class with three virtual functions.
func class() piece {
	return piece{machine: 62,
		data: map[uint64][]byte{dataAt + 0x10: []byte("\x00N2db1XE\x00"), dataAt + 0x40: make([]byte, 64)},
		relative: map[uint64]uint64{
			dataAt + 0x28: dataAt + 0x11,                                                             // typeinfo's name
			dataAt + 0x48: dataAt + 0x20,                                                             // typeinfo before the slots
			dataAt + 0x50: codeAt + 0x10, dataAt + 0x58: codeAt + 0x20, dataAt + 0x60: codeAt + 0x30, // slots
		}}
}

func TestVtable(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*piece)
		class  string
		want   []uint64
		says   string
	}{
		"found":         {nil, "N2db1XE", []uint64{codeAt + 0x10, codeAt + 0x20, codeAt + 0x30}, ""},
		"other class":   {nil, "N2db1YE", nil, "not in this image"},
		"end of a name": {nil, "2db1XE", nil, "not in this image"},
		"a slot into data ends the table": {func(p *piece) { p.relative[dataAt+0x60] = dataAt }, "N2db1XE",
			[]uint64{codeAt + 0x10, codeAt + 0x20}, ""},
		"no slot":     {func(p *piece) { delete(p.relative, dataAt+0x50) }, "N2db1XE", nil, "not in this image"},
		"no typeinfo": {func(p *piece) { delete(p.relative, dataAt+0x28) }, "N2db1XE", nil, "not in this image"},
		"only a second base": {func(p *piece) { p.data[dataAt+0x40] = []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} },
			"N2db1XE", nil, "not in this image"},
		"a second base beside it": {func(p *piece) {
			p.data[dataAt+0x80] = []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
			p.relative[dataAt+0x88], p.relative[dataAt+0x90] = dataAt+0x20, codeAt+0x40
		}, "N2db1XE", []uint64{codeAt + 0x10, codeAt + 0x20, codeAt + 0x30}, ""},
		"two that differ": {func(p *piece) {
			p.relative[dataAt+0x88], p.relative[dataAt+0x90] = dataAt+0x20, codeAt+0x40
		}, "N2db1XE", nil, "differ"},
		"no relocations":  {func(p *piece) { p.relative = nil }, "N2db1XE", nil, "relocations"},
		"another machine": {func(p *piece) { p.machine = 183 }, "N2db1XE", nil, "x86-64 only"},
	} {
		t.Run(name, func(t *testing.T) {
			p := class()
			if c.change != nil {
				c.change(&p)
			}
			var slots []uint64
			im, err := openImage(bytes.NewReader(p.build()))
			if err == nil {
				slots, err = im.vtable(c.class)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) || c.says == "" && err != nil {
				t.Fatalf("%v, want %q", err, c.says)
			}
			if !slices.Equal(slots, c.want) {
				t.Errorf("slots %#x, want %#x", slots, c.want)
			}
		})
	}
}

func TestBuildID(t *testing.T) {
	note := func(kind byte, name string, id ...byte) []byte {
		return append([]byte{byte(len(name)), 0, 0, 0, byte(len(id)), 0, 0, 0, kind, 0, 0, 0}, append([]byte(name), id...)...)
	}
	for name, c := range map[string]struct {
		note []byte
		want string
	}{
		"none": {nil, ""}, "one": {note(3, "GNU\x00", 1, 2, 0xab, 4), "0102ab04"},
		"second": {append(note(1, "GNU\x00", 9, 9, 9, 9), note(3, "GNU\x00", 5, 6, 7, 8)...), "05060708"},
		"other":  {note(3, "Go\x00\x00", 1, 2, 3, 4), ""}, "cut off": {note(3, "GNU\x00", 1, 2, 3, 4)[:14], ""},
	} {
		p := class()
		p.note = c.note
		im, err := openImage(bytes.NewReader(p.build()))
		if err != nil {
			t.Fatal(err)
		}
		if got := im.buildID(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A build that is not in the table is refused by name, and so is one whose
// functions are not where the table says.
func TestUnknownBuild(t *testing.T) {
	im, err := openImage(bytes.NewReader(targetProgram))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layoutOf(im, layouts); !errors.Is(err, ErrUnknownBuild) || !strings.Contains(err.Error(), im.buildID()) {
		t.Errorf("an unknown build: %v", err)
	}
	p := class()
	without, err := openImage(bytes.NewReader(p.build()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layoutOf(without, layouts); !errors.Is(err, ErrUnknownBuild) || !strings.Contains(err.Error(), "no build id") {
		t.Errorf("no build id: %v", err)
	}
	for name, wrong := range map[string]place{
		"slot": {Class: "N7rocksdb6DBImplE", Slot: 4}, "class": {Class: "N7rocksdb4NoneE"}, "symbol": {Symbol: "_ZN7rocksdb4None"},
	} {
		target := Target{Layout: Layout{writes: []place{wrong}}}
		if err := target.locate(im); err == nil {
			t.Errorf("a wrong %s was found: %#x", name, target.Writes)
		}
	}
}

func FuzzImage(f *testing.F) {
	f.Add(targetProgram, "N7rocksdb6DBImplE")
	p := class()
	f.Add(p.build(), "N2db1XE")
	f.Fuzz(func(t *testing.T, file []byte, class string) {
		im, err := openImage(bytes.NewReader(file))
		if err != nil {
			return
		}
		im.buildID()
		slots, err := im.vtable(class)
		if err != nil {
			return
		}
		for _, offset := range slots {
			if offset >= uint64(len(file)) {
				t.Errorf("a function at %#x of %d bytes", offset, len(file))
			}
		}
		_, _ = im.symbol(class)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, changeLen))
	f.Add(bytes.Repeat([]byte{0xff}, 200))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c Change
		if err := decode(raw, &c); err != nil {
			return
		}
		if len(c.Key)+len(c.Value) > len(raw)-changeLen {
			t.Errorf("%d bytes of text from %d", len(c.Key)+len(c.Value), len(raw)-changeLen)
		}
	})
}
