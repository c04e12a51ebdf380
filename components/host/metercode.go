package host

import (
	"bytes"
	"fmt"
)

// counters are the indices of the globals that meter adds.
type counters struct{ fuel, stack uint32 }

// meterCode rewrites the code section.
func meterCode(body []byte, c counters, functions []signature) ([]byte, error) {
	r := &reader{src: body}
	count := r.u32()
	if r.err == nil && uint64(count) != uint64(len(functions)) {
		return nil, fmt.Errorf("%w: %d functions have %d bodies", ErrUnmeterable, len(functions), count)
	}
	out := appendUnsigned(nil, uint64(count))
	for i := uint32(0); i < count; i++ {
		function := r.take(uint64(r.u32()))
		if r.err != nil {
			return nil, r.err
		}
		metered, err := meterFunction(function, c, functions[i])
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", i, err)
		}
		out = appendUnsigned(out, uint64(len(metered)))
		out = append(out, metered...)
	}
	if len(r.src) != 0 {
		return nil, fmt.Errorf("%w: bytes after the code", ErrUnmeterable)
	}
	return out, nil
}

// rewritten is a function's code with what it is charged for.
type rewritten struct {
	code     []byte
	bulk     bool // uses the local that holds a length
	calls    bool // is no leaf of the tree of calls
	nesting  int64
	counters counters
	length   uint32 // index of that local
	guarded  bool   // what it takes of the stack is counted
}

// meterFunction rewrites one function. Where it uses bulk instructions it gets a
// local more, which holds their length. Where it calls others its frame is
// counted: its code becomes a block, so that whatever way leads out of it the
// units are given back.
func meterFunction(function []byte, c counters, s signature) ([]byte, error) {
	r := &reader{src: function}
	locals := uint64(0)
	r.vector(func() {
		locals += uint64(r.u32())
		r.byte() // their type
	})
	if locals > localsMax {
		r.fail("%d locals", locals)
	}
	if r.err != nil {
		return nil, r.err
	}
	declarations, source := function[:len(function)-len(r.src)], r.src
	f := rewritten{counters: c, length: s.params + uint32(locals)}
	if err := f.rewrite(source); err != nil {
		return nil, err
	}
	code := append(chargeTurn(c.fuel), f.code...)
	if f.calls {
		f = rewritten{counters: c, length: f.length, guarded: true}
		if err := f.rewrite(source); err != nil {
			return nil, err
		}
		units := frameUnits(uint64(s.params)+locals, len(source))
		code = append(chargeTurn(c.fuel), takeUnits(c.stack, units)...)
		code = append(append(code, 0x02 /* block */), s.block...)
		code = append(append(code, f.code...), giveUnits(c.stack, units)...)
		code = append(code, 0x0b)
	}
	if f.bulk {
		var err error
		if declarations, err = addToVector(declarations, []byte{1, 0x7f /* one i32 */}); err != nil {
			return nil, err
		}
	}
	return append(bytes.Clone(declarations), code...), nil
}

// rewrite reads the code up to its end.
func (f *rewritten) rewrite(source []byte) error {
	r := &reader{src: source}
	turn := chargeTurn(f.counters.fuel)
	for len(r.src) > 0 {
		before := r.src
		op := r.byte()
		r.skipImmediates(op)
		if r.err != nil {
			return r.err
		}
		instruction := before[:len(before)-len(r.src)]
		if shift, bulk := bulkShift(instruction); bulk {
			f.code = append(f.code, chargeBulk(f.counters.fuel, f.length, shift)...)
			f.bulk = true
		}
		switch {
		case op >= 0x02 && op <= 0x04: // block, loop, if
			f.nesting++
		case op == 0x0b: // end
			f.nesting--
		case op == 0x10 || op == 0x11: // call, call_indirect
			f.calls = true
		case op == 0x0f && f.guarded: // return: leaves the block that the code became
			instruction = appendUnsigned([]byte{0x0c}, uint64(f.nesting))
		}
		if f.nesting < 0 && len(r.src) > 0 {
			r.fail("code after its end")
			return r.err
		}
		f.code = append(f.code, instruction...)
		if op == opLoop {
			f.code = append(f.code, turn...)
		}
	}
	if f.nesting != -1 {
		r.fail("code without its end")
	}
	return r.err
}
