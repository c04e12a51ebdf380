package rocksprobe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds of what is read of an image.
const (
	relocationsMax = 4 << 20
	segmentLenMax  = 1 << 30
	slotsMax       = 1024
)

// ErrNotFound says that an image lacks a class or a symbol.
var ErrNotFound = errors.New("not in this image")

// image is an ELF file whose vtables can be walked without symbols. Names of
// classes survive stripping, because typeid and catch need them; what points at
// what is in the relocations, because the file doesn't know where it will lie.
type image struct {
	file *elf.File
	// target is where a pointer at an address will point, by address.
	target map[uint64]uint64
	// pointers are the addresses of pointers, by what they point to.
	pointers map[uint64][]uint64
	segments []segment
}

// segment is one loaded part of the file.
type segment struct {
	address, offset uint64
	text            []byte
	executable      bool
}

func openImage(r io.ReaderAt) (*image, error) {
	file, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read the ELF header: %w", err)
	}
	if file.Class != elf.ELFCLASS64 || file.Machine != elf.EM_X86_64 || file.ByteOrder != binary.LittleEndian {
		return nil, fmt.Errorf("the image is for %s, this probe knows x86-64 only", file.Machine)
	}
	im := &image{file: file, target: map[uint64]uint64{}, pointers: map[uint64][]uint64{}}
	if err := im.loadSegments(); err != nil {
		return nil, err
	}
	return im, nil
}

func (im *image) loadSegments() error {
	for _, p := range im.file.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		if p.Filesz > segmentLenMax {
			return fmt.Errorf("a segment of %d bytes is too long", p.Filesz)
		}
		text := new(bytes.Buffer) // grows with what is there, not with what the header claims
		if _, err := io.Copy(text, p.Open()); err != nil {
			return fmt.Errorf("read the segment at %#x: %w", p.Vaddr, err)
		}
		im.segments = append(im.segments, segment{address: p.Vaddr, offset: p.Off, text: text.Bytes(), executable: p.Flags&elf.PF_X != 0})
	}
	if len(im.segments) == 0 {
		return errors.New("the image has no loaded segments")
	}
	return nil
}

// relocate reads the relocations that turn into pointers.
func (im *image) relocate() error {
	if len(im.target) > 0 {
		return nil
	}
	for _, s := range im.file.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		text, err := s.Data()
		if err != nil {
			return fmt.Errorf("read the relocations of %s: %w", s.Name, err)
		}
		const entryLen = 24
		if len(text)/entryLen > relocationsMax {
			return fmt.Errorf("%d relocations are more than %d", len(text)/entryLen, relocationsMax)
		}
		for ; len(text) >= entryLen; text = text[entryLen:] {
			if elf.R_X86_64(binary.LittleEndian.Uint32(text[8:])) != elf.R_X86_64_RELATIVE {
				continue
			}
			at, to := binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[16:])
			im.target[at] = to
			im.pointers[to] = append(im.pointers[to], at)
		}
	}
	if len(im.target) == 0 {
		return fmt.Errorf("%w: relocations (it is not position independent)", ErrNotFound)
	}
	return nil
}

// find returns the addresses of a text with zero bytes around it.
func (im *image) find(name string) []uint64 {
	var found []uint64
	needle := append([]byte(name), 0)
	for _, s := range im.segments {
		for at := 0; ; at++ {
			next := bytes.Index(s.text[at:], needle)
			if next < 0 {
				break
			}
			at += next
			if at > 0 && s.text[at-1] == 0 {
				found = append(found, s.address+uint64(at))
			}
		}
	}
	return found
}

// uint64At reads eight bytes of the file that will lie at an address.
func (im *image) uint64At(address uint64) (uint64, bool) {
	for _, s := range im.segments {
		if address >= s.address && address-s.address < uint64(len(s.text)) && uint64(len(s.text))-(address-s.address) >= 8 {
			return binary.LittleEndian.Uint64(s.text[address-s.address:]), true
		}
	}
	return 0, false
}

// codeOffset turns the address of an instruction into its place in the file,
// which is what a uprobe wants.
func (im *image) codeOffset(address uint64) (uint64, bool) {
	for _, s := range im.segments {
		if s.executable && address >= s.address && address-s.address < uint64(len(s.text)) {
			return address - s.address + s.offset, true
		}
	}
	return 0, false
}

// vtable returns the file offsets of a class's virtual functions, by slot, from
// the mangled name of its typeinfo ("N7rocksdb6DBImplE"). The way is: the name's
// text; a pointer to it, which is the second word of the typeinfo; a pointer to
// that, which is the word before the first slot; and before it the offset to the
// top of the object, 0 in the class's own vtable and not in one for a second base.
func (im *image) vtable(class string) ([]uint64, error) {
	if err := im.relocate(); err != nil {
		return nil, err
	}
	var tables [][]uint64
	for _, text := range im.find(class) {
		for _, second := range im.pointers[text] {
			for _, before := range im.pointers[second-8] {
				if top, ok := im.uint64At(before - 8); !ok || top != 0 || im.target[before-8] != 0 {
					continue
				}
				if slots := im.slots(before + 8); len(slots) > 0 {
					tables = append(tables, slots)
				}
			}
		}
	}
	if len(tables) == 0 {
		return nil, fmt.Errorf("class %s: %w", class, ErrNotFound)
	}
	for _, t := range tables[1:] {
		if !slices.Equal(t, tables[0]) {
			return nil, fmt.Errorf("class %s has %d vtables that differ", class, len(tables))
		}
	}
	return tables[0], nil
}

// slots follows pointers to code from an address on. Slots of pure virtual
// functions point outside of the image and have no relocation of this kind; they
// end the table.
func (im *image) slots(address uint64) []uint64 {
	var slots []uint64
	for len(slots) < slotsMax {
		to, relocated := im.target[address]
		if !relocated {
			break
		}
		offset, code := im.codeOffset(to)
		if !code {
			break
		}
		slots = append(slots, offset)
		address += 8
	}
	return slots
}

// symbol returns the file offset of a function of the dynamic symbol table.
func (im *image) symbol(name string) (uint64, error) {
	symbols, err := im.file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the dynamic symbols: %w", err)
	}
	for _, s := range symbols {
		if s.Name != name || elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Section == elf.SHN_UNDEF {
			continue
		}
		if offset, ok := im.codeOffset(s.Value); ok {
			return offset, nil
		}
	}
	return 0, fmt.Errorf("symbol %s: %w", name, ErrNotFound)
}

// buildID returns the build id in hex, empty if there is none.
func (im *image) buildID() string {
	for _, p := range im.file.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		text := new(bytes.Buffer)
		if _, err := io.Copy(text, p.Open()); err != nil {
			continue
		}
		if id := buildIDOf(text.Bytes()); id != "" {
			return id
		}
	}
	return ""
}

// buildIDOf looks through the notes of a segment.
func buildIDOf(notes []byte) string {
	const gnuBuildID = 3
	align := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(notes) >= 12 {
		nameLen, textLen := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		kind := binary.LittleEndian.Uint32(notes[8:])
		notes = notes[12:]
		if align(nameLen)+align(textLen) > uint64(len(notes)) {
			return ""
		}
		name, text := notes[:nameLen], notes[align(nameLen):align(nameLen)+uint64(textLen)]
		if kind == gnuBuildID && string(name) == "GNU\x00" && len(text) > 0 {
			return fmt.Sprintf("%x", text)
		}
		notes = notes[align(nameLen)+align(textLen):]
	}
	return ""
}
