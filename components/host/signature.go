package host

// signature is what metering needs to know of a function's type.
type signature struct {
	params uint32
	// block is the type of a block that leaves the function's results: empty, one
	// value's type, or the index of a type that addBlockTypes added.
	block []byte
}

// signatures are the module's functions' types. It adds a type to the module for
// each that has more than one result.
func signatures(sections []section) ([]signature, error) {
	var byType, byFunction []signature
	for i := range sections {
		s := &sections[i]
		r := &reader{src: s.body}
		switch s.id {
		case sectionType:
			var results [][]byte
			r.vector(func() {
				r.byte()
				n := r.u32()
				r.take(uint64(n))
				byType = append(byType, signature{params: n})
				results = append(results, r.take(uint64(r.u32())))
			})
			if r.err != nil {
				return nil, r.err
			}
			var err error
			if s.body, err = addBlockTypes(s.body, byType, results); err != nil {
				return nil, err
			}
		case sectionFunction:
			r.vector(func() {
				t := r.u32()
				if uint64(t) >= uint64(len(byType)) {
					r.fail("function of type %d, of %d", t, len(byType))
					return
				}
				byFunction = append(byFunction, byType[t])
			})
			if r.err != nil {
				return nil, r.err
			}
		}
	}
	return byFunction, nil
}

// addBlockTypes gives each type its block type and returns the type section with
// what that needs.
func addBlockTypes(types []byte, byType []signature, results [][]byte) (_ []byte, err error) {
	added := int64(len(byType))
	for i := range byType {
		switch len(results[i]) {
		case 0:
			byType[i].block = []byte{0x40}
		case 1:
			byType[i].block = results[i]
		default:
			byType[i].block = appendSigned(nil, added)
			added++
			entry := appendUnsigned([]byte{0x60, 0}, uint64(len(results[i])))
			if types, err = addToVector(types, append(entry, results[i]...)); err != nil {
				return nil, err
			}
		}
	}
	return types, nil
}
