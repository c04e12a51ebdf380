package support

import (
	"debug/elf"
	"errors"
	"fmt"
)

// entryOffset returns where in the file a program's entry point lies. Unlike a
// symbol, every program has one, stripped or not.
func entryOffset(path string) (uint64, error) {
	file, err := elf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_LOAD && segment.Flags&elf.PF_X != 0 &&
			file.Entry >= segment.Vaddr && file.Entry-segment.Vaddr < segment.Memsz {
			return file.Entry - segment.Vaddr + segment.Off, nil
		}
	}
	return 0, errors.New("the entry point is in no executable segment")
}
