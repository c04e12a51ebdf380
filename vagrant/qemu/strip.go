package qemu

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
)

// Of the 64-bit ELF header, elf(5): where the section table is, and how long.
const (
	elfHeaderLen        = 64
	elfSectionOffsetAt  = 0x28 // 8 bytes
	elfSectionEntriesAt = 0x3a // size, number and index of the names: 6 bytes
)

// loadedPart is a program without what is only for debuggers: everything behind
// the last byte that is loaded. The machine keeps the whole file in memory, and
// debugging information is a third of it.
type loadedPart struct {
	file   *os.File
	size   int64
	header [elfHeaderLen]byte
}

func openLoadedPart(path string) (*loadedPart, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &loadedPart{file: file}
	if err := p.measure(); err != nil {
		return nil, errors.Join(fmt.Errorf("read program %s: %w", path, err), file.Close())
	}
	return p, nil
}

func (p *loadedPart) measure() error {
	binary, err := elf.NewFile(p.file)
	if err != nil {
		return err
	}
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	if _, err := p.file.ReadAt(p.header[:], 0); err != nil {
		return err
	}
	if binary.Class != elf.ELFCLASS64 || binary.ByteOrder.String() != "LittleEndian" {
		return nil // as it is
	}
	end := int64(elfHeaderLen)
	for _, segment := range binary.Progs {
		end = max(end, int64(segment.Off+segment.Filesz))
	}
	if end > p.size {
		return errors.New("it is shorter than its segments")
	}
	p.size = end
	clear(p.header[elfSectionOffsetAt : elfSectionOffsetAt+8])
	clear(p.header[elfSectionEntriesAt:])
	return nil
}

// content returns the bytes of the loaded part.
func (p *loadedPart) content() io.Reader {
	return io.MultiReader(bytes.NewReader(p.header[:]), io.NewSectionReader(p.file, elfHeaderLen, p.size-elfHeaderLen))
}

func (p *loadedPart) close() error { return p.file.Close() }
