package qemu

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// libraryFolders are where the dynamic linker looks by default, ld.so(8), on the
// distributions that this project knows.
var libraryFolders = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
	"/lib64", "/usr/lib64", "/lib", "/usr/lib",
}

// librariesMax bounds what one program may drag along.
const librariesMax = 64

// libraries returns the files that a program needs beside itself: its dynamic
// linker and the shared libraries, none for a static one. Paths are the same in
// the machine as on the host.
func libraries(program string) ([]string, error) {
	found := map[string]string{} // by soname
	var files []string
	queue := []string{program}
	for len(queue) > 0 {
		if len(files) > librariesMax {
			return nil, fmt.Errorf("%s needs more than %d libraries", program, librariesMax)
		}
		interpreter, needed, err := linked(queue[0])
		if err != nil {
			return nil, fmt.Errorf("look at what %s needs: %w", program, err)
		}
		queue = queue[1:]
		if interpreter != "" && found[filepath.Base(interpreter)] == "" {
			found[filepath.Base(interpreter)] = interpreter
			files = append(files, interpreter)
		}
		for _, name := range needed {
			if found[name] != "" {
				continue
			}
			path, err := findLibrary(name)
			if err != nil {
				return nil, fmt.Errorf("look at what %s needs: %w", program, err)
			}
			found[name] = path
			files = append(files, path)
			queue = append(queue, path)
		}
	}
	return files, nil
}

func linked(path string) (interpreter string, needed []string, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	if section := file.Section(".interp"); section != nil {
		text, err := section.Data()
		if err != nil {
			return "", nil, err
		}
		interpreter = string(text[:max(0, len(text)-1)]) // ends in a zero byte
	}
	if file.Section(".dynamic") == nil {
		return interpreter, nil, nil
	}
	needed, err = file.ImportedLibraries()
	return interpreter, needed, err
}

func findLibrary(name string) (string, error) {
	for _, folder := range libraryFolders {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no library " + name)
}
