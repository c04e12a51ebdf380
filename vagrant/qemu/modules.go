package qemu

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// wantedModules are what the labs and the probes use, where a distribution has
// it as a module.
var wantedModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "veth", "sch_ingress", "cls_bpf"}

// module is one kernel module, decompressed.
type module struct {
	name string
	data []byte
}

// moduleLenMax bounds a module: a compressed file of a few bytes could expand without end.
const moduleLenMax = 64 << 20

// modulesInOrder returns the wanted modules with all that they depend on, each
// behind its dependencies. What is built into the kernel is left out; what is
// neither module nor built in is an error.
func modulesInOrder(dir string, wanted []string) ([]module, error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	builtin, err := builtinModules(dir)
	if err != nil {
		return nil, err
	}
	var ordered []module
	state := map[string]int{} // 1: under way, 2: done
	var visit func(name string) error
	visit = func(name string) error {
		name = canonical(name)
		switch {
		case state[name] == 2 || builtin[name]:
			return nil
		case state[name] == 1:
			return fmt.Errorf("module %s depends on itself", name)
		}
		path, found := files[name]
		if !found {
			return fmt.Errorf("this kernel has no module %s", name)
		}
		state[name] = 1
		data, err := readModule(path)
		if err != nil {
			return err
		}
		depends, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, d := range depends {
			if err := visit(d); err != nil {
				return err
			}
		}
		state[name] = 2
		ordered = append(ordered, module{name, data})
		return nil
	}
	for _, name := range wanted {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// canonical is a module's name as the kernel writes it.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

func moduleName(file string) (string, bool) {
	name, _, found := strings.Cut(filepath.Base(file), ".ko")
	return canonical(name), found
}

func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleName(path); ok && !entry.IsDir() {
			files[name] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	return files, nil
}

func builtinModules(dir string) (map[string]bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list built-in modules: %w", err)
	}
	builtin := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if name, ok := moduleName(strings.TrimSpace(line)); ok {
			builtin[name] = true
		}
	}
	return builtin, nil
}

func readModule(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a module: %w", err)
	}
	defer file.Close()
	reader, err := decompress(path, file)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(reader, moduleLenMax+1))
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", path, err)
	}
	if len(data) > moduleLenMax {
		return nil, fmt.Errorf("read module %s: more than %d bytes", path, moduleLenMax)
	}
	return data, nil
}

func decompress(path string, from io.Reader) (io.Reader, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return from, nil
	case ".xz":
		return xz.NewReader(from)
	case ".gz":
		return gzip.NewReader(from)
	case ".zst":
		return zstd.NewReader(from, zstd.WithDecoderConcurrency(1))
	}
	return nil, errors.New("unknown compression")
}

// dependencies reads the line depends=a,b of a module's .modinfo section, which
// holds strings that end in a zero byte.
func dependencies(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	for _, line := range strings.Split(string(info), "\x00") {
		list, found := strings.CutPrefix(line, "depends=")
		if found && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
