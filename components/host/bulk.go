package host

// Bulk instructions work on a length that the guest chooses, megabytes at a time:
// unless they are charged by that length, fuel would bound a call to hours. One
// unit stands for about as long as a turn of a loop takes.
const (
	bytesPerUnitShift    = 6 // memory: 64 bytes a unit
	elementsPerUnitShift = 3 // tables: 8 elements of 8 bytes a unit
)

// bulkShift tells a bulk instruction, and by how many bits its length is shifted
// to give units of fuel.
func bulkShift(instruction []byte) (shift byte, bulk bool) {
	if instruction[0] != 0xfc {
		return 0, false
	}
	r := &reader{src: instruction[1:]}
	switch r.u32() {
	case 8, 10, 11: // memory.init, memory.copy, memory.fill
		return bytesPerUnitShift, true
	case 12, 14, 17: // table.init, table.copy, table.fill
		return elementsPerUnitShift, true
	}
	return 0, false
}

// chargeTurn is the code that takes one unit of fuel.
func chargeTurn(global uint32) []byte { return takeUnits(global, 1) }

// chargeBulk is the code that takes fuel for the length on top of the stack,
// which stays there; local is an i32 to keep it in.
func chargeBulk(global, local uint32, shift byte) []byte {
	index, length := appendUnsigned(nil, uint64(global)), appendUnsigned(nil, uint64(local))
	code := append([]byte{0x22}, length...)            // local.tee
	code = append(append(code, 0x23), index...)        // global.get
	code = append(append(code, 0x20), length...)       // local.get
	code = append(code, 0xad, 0x42, shift, 0x88, 0x7d) // i64.extend_i32_u, i64.const, i64.shr_u, i64.sub
	code = append(append(code, 0x24), index...)        // global.set
	return append(code, trapIfEmpty(index)...)
}

func trapIfEmpty(index []byte) []byte {
	code := append([]byte{0x23}, index...)                        // global.get
	code = append(code, 0x42, 0, 0x53)                            // i64.const 0, i64.lt_s
	return append(code, 0x04, 0x40, 0x00, 0x0b /* if trap end */) // void block
}

// takeUnits is the code that takes so many units from a counter, which traps below
// zero; giveUnits puts them back.
func takeUnits(global uint32, units int64) []byte {
	return append(addUnits(global, units, 0x7d /* i64.sub */), trapIfEmpty(appendUnsigned(nil, uint64(global)))...)
}

func giveUnits(global uint32, units int64) []byte {
	return addUnits(global, units, 0x7c /* i64.add */)
}

func addUnits(global uint32, units int64, op byte) []byte {
	index := appendUnsigned(nil, uint64(global))
	code := append([]byte{0x23}, index...)          // global.get
	code = appendSigned(append(code, 0x42), units)  // i64.const
	return append(append(code, op, 0x24), index...) // global.set
}
