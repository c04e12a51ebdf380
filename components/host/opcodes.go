package host

import (
	"fmt"
)

const opLoop = 0x03

// reader walks a part of a module. After an error it stays at its place.
type reader struct {
	src []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrUnmeterable}, args...)...)
	}
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.src)) {
		r.fail("it ends early")
		return nil
	}
	taken := r.src[:n:n]
	r.src = r.src[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail("number out of range")
	return 0
}

// skipLEB skips a LEB128 number of any sign, at most 10 bytes.
func (r *reader) skipLEB() {
	for range 10 {
		if r.byte()&0x80 == 0 {
			return
		}
	}
	r.fail("number out of range")
}

func (r *reader) skipMemarg() {
	r.skipLEB()
	r.skipLEB()
}

// skipImmediates skips what follows op (WebAssembly 2.0, 5.4).
func (r *reader) skipImmediates(op byte) {
	switch {
	case op >= 0x02 && op <= 0x04: // block, loop, if
		r.skipLEB()
	case op <= 0x01, op == 0x05, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b: // no immediates
	case op == 0x0c, op == 0x0d, op == 0x10: // br, br_if, call
		r.skipLEB()
	case op == 0x0e: // br_table
		for n := r.u32(); n > 0 && r.err == nil; n-- {
			r.skipLEB()
		}
		r.skipLEB()
	case op == 0x11: // call_indirect
		r.skipLEB()
		r.skipLEB()
	case op == 0x1c: // select with types
		r.take(uint64(r.u32()))
	case op >= 0x20 && op <= 0x26: // locals, globals, tables
		r.skipLEB()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.skipMemarg()
	case op >= 0x3f && op <= 0x42: // memory.size, memory.grow, i32.const, i64.const
		r.skipLEB()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op >= 0x45 && op <= 0xc4, op == 0xd1: // numeric, ref.is_null
	case op == 0xd0, op == 0xd2: // ref.null, ref.func
		r.skipLEB()
	case op == 0xfc:
		r.skipBulk(r.u32())
	case op == 0xfd:
		r.skipVector(r.u32())
	default:
		r.fail("opcode %#x", op)
	}
}

func (r *reader) skipBulk(sub uint32) {
	switch {
	case sub <= 7: // saturating conversions
	case sub == 8, sub == 10, sub == 12, sub == 14: // memory.init, memory.copy, table.init, table.copy
		r.skipLEB()
		r.skipLEB()
	case sub == 9, sub == 11, sub == 13, sub == 16, sub == 17: // data.drop, memory.fill, elem.drop, table.size, table.fill
		r.skipLEB()
	case sub == 15:
		// Tables live in the host's memory, which nothing here would bound.
		r.fail("table.grow is not allowed")
	default:
		r.fail("opcode 0xfc %d", sub)
	}
}

func (r *reader) skipVector(sub uint32) {
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		r.skipMemarg()
	case sub == 12, sub == 13: // v128.const, i8x16.shuffle
		r.take(16)
	case sub >= 21 && sub <= 34: // lanes
		r.take(1)
	case sub >= 84 && sub <= 91: // loads and stores of a lane
		r.skipMemarg()
		r.take(1)
	case sub <= 255:
	default: // relaxed SIMD
		r.fail("opcode 0xfd %d", sub)
	}
}
