package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// elfFile makes a small x86-64 ELF file: with notes in a segment if there are
// some, and with a .modinfo section if there is modinfo.
func elfFile(kind elf.Type, notes []byte, modinfo string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(kind),
		Machine: uint16(elf.EM_X86_64),
		Version: uint32(elf.EV_CURRENT),
		Ehsize:  64, Phentsize: 56, Shentsize: 64,
		Phoff: 64, Phnum: 1, Shnum: 3, Shstrndx: 2,
	}
	at := uint64(64 + 56)
	infoAt := at + uint64(len(notes))
	namesAt := infoAt + uint64(len(modinfo))
	header.Shoff = namesAt + uint64(len(names))
	var out bytes.Buffer
	for _, part := range []any{
		header,
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4},
		notes, []byte(modinfo), []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: infoAt, Size: uint64(len(modinfo))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

// note makes one ELF note; owner and body are padded by the caller.
func note(owner string, kind uint32, body string) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	out = binary.LittleEndian.AppendUint32(out, kind)
	return append(append(out, owner...), body...)
}
