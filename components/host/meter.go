package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Exported globals that meter adds to a module.
const (
	fuelGlobal  = "nexus:fuel"
	stackGlobal = "nexus:stack"
)

// stackUnits bounds what a guest's calls may take of the stack, in units of about
// 64 bytes: a megabyte. The runtime's own bound is fifty, and what a call needed
// once stays with its Func, so that a guest could take it beside its memory.
const stackUnits = 16 << 10

// frameUnits is no less than what a function's frame takes: its locals, and an
// operand for each byte of its code at worst.
func frameUnits(locals uint64, codeLen int) int64 {
	return 1 + int64(16*locals+8*uint64(codeLen))/64
}

// ErrUnmeterable says that a module uses something that meter doesn't know or
// can't bound.
var ErrUnmeterable = errors.New("host: module can't be metered")

// Section ids of the binary format (WebAssembly 2.0, 5.5).
const (
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionGlobal   = 6
	sectionExport   = 7
	sectionCode     = 10
)

// sectionOrder is where a section stands in a module; the data count stands
// between elements and code (5.5.16).
var sectionOrder = map[byte]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 12: 10, 10: 11, 11: 12}

type section struct {
	id   byte
	body []byte
}

// meter rewrites a module so that it can be stopped: a mutable global, exported
// as fuelGlobal, loses one unit at every function entry and every turn of a
// loop, and as many as a bulk instruction works long (see bulk.go). The module
// traps when it falls below zero. Between two charges runs straight-line code
// only, so fuel bounds the time of any call. A second one, stackGlobal, holds what
// the calls under way may still take of the stack.
//
// It costs a load, a subtraction and a branch per charge, where wazero's
// WithCloseOnContextDone costs a goroutine per call and an exit to Go per turn.
func meter(module []byte, initialFuel int64) ([]byte, error) {
	sections, err := split(module)
	if err != nil {
		return nil, err
	}
	if err := checkSections(sections); err != nil {
		return nil, err
	}
	global, err := globalCount(sections)
	if err != nil {
		return nil, err
	}
	functions, err := signatures(sections)
	if err != nil {
		return nil, err
	}
	sections = ensure(sections, sectionGlobal)
	sections = ensure(sections, sectionExport)
	for i := range sections {
		s := &sections[i]
		switch s.id {
		case sectionGlobal:
			if s.body, err = addToVector(s.body, counter(initialFuel)); err == nil {
				s.body, err = addToVector(s.body, counter(stackUnits))
			}
		case sectionExport:
			if s.body, err = addToVector(s.body, exported(fuelGlobal, global)); err == nil {
				s.body, err = addToVector(s.body, exported(stackGlobal, global+1))
			}
		case sectionCode:
			s.body, err = meterCode(s.body, counters{global, global + 1}, functions)
		}
		if err != nil {
			return nil, err
		}
	}
	return join(sections), nil
}

// counter is a mutable i64 global that begins with a constant.
func counter(initial int64) []byte {
	return append(appendSigned([]byte{0x7e, 0x01, 0x42}, initial), 0x0b)
}

// exported is the export of a global.
func exported(name string, global uint32) []byte {
	entry := append(appendUnsigned(nil, uint64(len(name))), name...)
	return appendUnsigned(append(entry, 0x03), uint64(global))
}

var moduleHeader = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

func split(module []byte) ([]section, error) {
	if len(module) > moduleLenMax {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrUnmeterable, moduleLenMax)
	}
	body, ok := bytes.CutPrefix(module, moduleHeader)
	if !ok {
		return nil, fmt.Errorf("%w: not a WebAssembly 1 module", ErrUnmeterable)
	}
	r := &reader{src: body}
	var sections []section
	for last := 0; len(r.src) > 0; {
		id := r.byte()
		content := r.take(uint64(r.u32()))
		if r.err != nil {
			return nil, r.err
		}
		if id == 0 {
			continue // custom sections, such as names, are not needed to run
		}
		order := sectionOrder[id]
		if order <= last {
			return nil, fmt.Errorf("%w: section %d unknown or out of order", ErrUnmeterable, id)
		}
		last = order
		sections = append(sections, section{id, content})
	}
	return sections, nil
}

func join(sections []section) []byte {
	module := bytes.Clone(moduleHeader)
	for _, s := range sections {
		module = append(module, s.id)
		module = appendUnsigned(module, uint64(len(s.body)))
		module = append(module, s.body...)
	}
	return module
}

// ensure adds an empty section with that id in its place if there is none.
func ensure(sections []section, id byte) []section {
	at := len(sections)
	for i, s := range sections {
		if s.id == id {
			return sections
		}
		if sectionOrder[s.id] > sectionOrder[id] && at == len(sections) {
			at = i
		}
	}
	grown := append([]section{}, sections[:at]...)
	grown = append(grown, section{id, []byte{0}})
	return append(grown, sections[at:]...)
}

// globalCount is the index that the next global gets. Imports of any kind are
// refused: this host gives a guest nothing.
func globalCount(sections []section) (uint32, error) {
	for _, s := range sections {
		r := &reader{src: s.body}
		switch s.id {
		case sectionImport:
			if n := r.u32(); n != 0 || r.err != nil {
				return 0, fmt.Errorf("%w: it has imports", ErrUnmeterable)
			}
		case sectionGlobal:
			n := r.u32()
			return n, r.err
		}
	}
	return 0, nil
}

func addToVector(vector, entry []byte) ([]byte, error) {
	r := &reader{src: vector}
	n := r.u32()
	if r.err != nil || n == ^uint32(0) {
		return nil, errors.Join(r.err, ErrUnmeterable)
	}
	grown := appendUnsigned(nil, uint64(n)+1)
	grown = append(grown, r.src...)
	return append(grown, entry...), nil
}

func appendUnsigned(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendSigned(dst []byte, v int64) []byte {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(dst, low)
		}
		dst = append(dst, low|0x80)
	}
}
