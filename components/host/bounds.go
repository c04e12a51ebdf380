package host

// Bounds of a module. wazero makes room for as many entries as a module claims
// to have before it reads them, so that twenty bytes could ask for gigabytes:
// checkSections makes sure that what is claimed is there.
const (
	moduleLenMax = 16 << 20
	tableLenMax  = 1 << 16
	localsMax    = 10_000 // of one function
)

// checkSections walks the sections whose entries claim lengths.
func checkSections(sections []section) error {
	for _, s := range sections {
		r := &reader{src: s.body}
		switch s.id {
		case 1:
			r.vector(r.funcType)
		case 3:
			r.vector(r.skipLEB)
		case 4:
			r.vector(r.table)
		case sectionGlobal:
			r.vector(r.global)
		case sectionExport:
			r.vector(r.export)
		case 9:
			r.vector(r.element)
		case sectionCode:
			r.vector(func() { r.take(uint64(r.u32())) })
		case 11:
			r.vector(r.data)
		case 12:
			if r.u32() > moduleLenMax {
				r.fail("data count out of range")
			}
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// vector reads a count and as many entries, each of at least one byte.
func (r *reader) vector(entry func()) {
	n := r.u32()
	if uint64(n) > uint64(len(r.src)) {
		r.fail("%d entries in %d bytes", n, len(r.src))
	}
	for ; n > 0 && r.err == nil; n-- {
		entry()
	}
}

func (r *reader) funcType() {
	r.byte()
	r.take(uint64(r.u32())) // parameters
	r.take(uint64(r.u32())) // results
}

func (r *reader) table() {
	r.byte()
	flags := r.byte()
	if r.u32() > tableLenMax {
		r.fail("table of more than %d elements", tableLenMax)
	}
	if flags&1 != 0 {
		r.u32()
	}
}

func (r *reader) global() {
	r.take(2)
	r.expression()
}

func (r *reader) export() {
	r.take(uint64(r.u32()))
	r.byte()
	r.u32()
}

// expression reads up to the end of a constant expression, which has no blocks.
func (r *reader) expression() {
	for r.err == nil {
		op := r.byte()
		if op == 0x0b {
			return
		}
		r.skipImmediates(op)
	}
}

// element reads an element segment (5.5.12): bit 0 of flags is passive or
// declared, bit 1 an explicit table or declared, bit 2 expressions.
func (r *reader) element() {
	flags := r.u32()
	if flags > 7 {
		r.fail("element segment %#x", flags)
	}
	if flags&1 == 0 {
		if flags&2 != 0 {
			r.u32()
		}
		r.expression()
	}
	if flags&3 != 0 {
		r.byte() // kind or type
	}
	if flags&4 != 0 {
		r.vector(r.expression)
	} else {
		r.vector(r.skipLEB)
	}
}

func (r *reader) data() {
	flags := r.u32()
	if flags > 2 {
		r.fail("data segment %#x", flags)
	}
	if flags == 2 {
		r.u32()
	}
	if flags != 1 {
		r.expression()
	}
	r.take(uint64(r.u32()))
}
