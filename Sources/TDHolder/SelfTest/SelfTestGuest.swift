/// How the guest asks its host to convert memory. The value is the stub's offset in the program.
enum ConversionTransport: UInt32, Sendable {
    /// IN from port 0xF0 with the hypercall's registers; the value read is the answer.
    case port = 0x62
    /// KVM_HC_MAP_GPA_RANGE by VMMCALL (AMD)
    case vmmcall = 0x65
    /// KVM_HC_MAP_GPA_RANGE by VMCALL (Intel)
    case vmcall = 0x69
}

/// The program that the self-test runs on a real vCPU: 32-bit protected mode without paging, flat segments.
///
/// It starts in shared memory with RSI at its own page and RDI at the page to run from, copies itself there – a private
/// page can be filled by the guest alone – and goes on from the copy. The last 256 bytes of the page hold its
/// parameters; the stack grows down from them. It reports where it is by OUT to port 0xE0 + step, with a value in EAX.
///
/// The one instruction that it executes out of shared memory is the request for a conversion: a CPU that does not report to
/// KVM where the next instruction begins makes KVM decode it, and KVM reads instructions through the slot's user-space
/// address, which is the shared side.
enum SelfTestGuest {
    /// Where the parameters begin inside the program's page.
    static let parameterOffset = 0xF00
    /// Entry of the program that never ends, an offset in the page.
    static let spinOffset: UInt64 = 0xE2

    /// The dword at address `a` of a pattern is `seed ^ a`.
    static let guestSeedA: UInt32 = 0xA5A5_0001
    static let guestSeedB: UInt32 = 0x5A5A_0002
    static let hostSeedC: UInt32 = 0x3C3C_0003
    static let guestSeedD: UInt32 = 0xC3C3_0004

    /// The low dword of KVM_MAP_GPA_RANGE_ENCRYPTED in the hypercall's third argument.
    static let encryptedBit: UInt64 = 0x10
    /// KVM_HC_MAP_GPA_RANGE
    static let mapRangeNumber: UInt64 = 12

    /// The ports of the guest's reports. The value is what EAX holds.
    enum Port {
        static let convert: UInt16 = 0xF0
        /// Pattern A is written.
        static let wroteA: UInt16 = 0xE1
        /// Dwords that differ from A.
        static let checkedA: UInt16 = 0xE2
        /// The answer to the request to share.
        static let askedShared: UInt16 = 0xE3
        /// Dwords that are not zero after the conversion to shared.
        static let zeroAfterShared: UInt16 = 0xE4
        /// Pattern B is written to shared memory.
        static let wroteB: UInt16 = 0xE5
        /// Dwords that differ from the host's pattern C.
        static let checkedC: UInt16 = 0xE6
        /// The answer to the request to make private.
        static let askedPrivate: UInt16 = 0xE7
        /// Dwords that are not zero after the conversion to private.
        static let zeroAfterPrivate: UInt16 = 0xE8
        /// Pattern D is written; the host now discards the pages without converting them.
        static let wroteD: UInt16 = 0xE9
        /// Dwords that are not zero after that.
        static let zeroAfterDiscard: UInt16 = 0xEA
    }

    /// The page as the host writes it, to `address`: program, then parameters.
    static func page(
        at address: UInt32, transport: ConversionTransport, dataAddress: UInt32, dataBytes: UInt32
    ) -> [UInt8] {
        precondition(program.count <= parameterOffset - 64, "the stack needs room below the parameters")
        var page = program + [UInt8](repeating: 0, count: 4096 - program.count)
        for (index, word) in [address + transport.rawValue, dataAddress, dataBytes].enumerated() {
            for byte in 0..<4 {
                page[parameterOffset + index * 4 + byte] = UInt8(truncatingIfNeeded: word >> (8 * byte))
            }
        }
        return page
    }

    /// Assembled by hand. Offsets are those in the page.
    static let program: [UInt8] = [
        // boot: copy this page to EDI and go on there
        0xB9, 0x00, 0x04, 0x00, 0x00,  // 00  mov ecx, 1024
        0xFC,  // 05  cld
        0xF3, 0xA5,  // 06  rep movsd
        0x8D, 0xA7, 0x00, 0xFF, 0xFF, 0xFF,  // 08  lea esp, [edi - 0x100]       stack below the parameters
        0x89, 0xE5,  // 0E  mov ebp, esp                 EBP: the parameters
        0x8D, 0x87, 0x72, 0xF0, 0xFF, 0xFF,  // 10  lea eax, [edi - 0x1000 + 0x72]  main of the copy
        0xFF, 0xE0,  // 16  jmp eax
        // fill: seed in EAX
        0x8B, 0x7D, 0x04,  // 18  mov edi, [ebp + 4]           data address
        0x8B, 0x4D, 0x08,  // 1B  mov ecx, [ebp + 8]           data bytes
        0xC1, 0xE9, 0x02,  // 1E  shr ecx, 2
        0x89, 0xFA,  // 21  mov edx, edi
        0x31, 0xC2,  // 23  xor edx, eax
        0x89, 0x17,  // 25  mov [edi], edx
        0x83, 0xC7, 0x04,  // 27  add edi, 4
        0x49,  // 2A  dec ecx
        0x75, 0xF4,  // 2B  jnz 21
        0xC3,  // 2D  ret
        // check: seed in EAX, 0 for "all zero"; returns the number of dwords that differ
        0x8B, 0x7D, 0x04,  // 2E  mov edi, [ebp + 4]
        0x8B, 0x4D, 0x08,  // 31  mov ecx, [ebp + 8]
        0xC1, 0xE9, 0x02,  // 34  shr ecx, 2
        0x31, 0xDB,  // 37  xor ebx, ebx
        0x89, 0xFA,  // 39  mov edx, edi
        0x31, 0xC2,  // 3B  xor edx, eax
        0x85, 0xC0,  // 3D  test eax, eax
        0x75, 0x02,  // 3F  jnz 43
        0x31, 0xD2,  // 41  xor edx, edx
        0x39, 0x17,  // 43  cmp [edi], edx
        0x74, 0x01,  // 45  je 48
        0x43,  // 47  inc ebx
        0x83, 0xC7, 0x04,  // 48  add edi, 4
        0x49,  // 4B  dec ecx
        0x75, 0xEB,  // 4C  jnz 39
        0x89, 0xD8,  // 4E  mov eax, ebx
        0xC3,  // 50  ret
        // convert: attributes in EDX; KVM_HC_MAP_GPA_RANGE(EBX address, ECX pages, EDX attributes)
        0x8B, 0x5D, 0x04,  // 51  mov ebx, [ebp + 4]
        0x8B, 0x4D, 0x08,  // 54  mov ecx, [ebp + 8]
        0xC1, 0xE9, 0x0C,  // 57  shr ecx, 12
        0x31, 0xF6,  // 5A  xor esi, esi
        0x6A, 0x0C,  // 5C  push 12
        0x58,  // 5E  pop eax
        0xFF, 0x65, 0x00,  // 5F  jmp [ebp]                   the stub below, in the shared page
        0xE5, 0xF0,  // 62  in eax, 0xF0
        0xC3,  // 64  ret
        0x0F, 0x01, 0xD9,  // 65  vmmcall
        0xC3,  // 68  ret
        0x0F, 0x01, 0xC1,  // 69  vmcall
        0xC3,  // 6C  ret
        0x90, 0x90, 0x90, 0x90, 0x90,  // 6D  nop
        // main
        0xB8, 0x01, 0x00, 0xA5, 0xA5,  // 72  mov eax, A
        0xE8, 0x9C, 0xFF, 0xFF, 0xFF,  // 77  call fill
        0xE7, 0xE1,  // 7C  out 0xE1, eax
        0xB8, 0x01, 0x00, 0xA5, 0xA5,  // 7E  mov eax, A
        0xE8, 0xA6, 0xFF, 0xFF, 0xFF,  // 83  call check
        0xE7, 0xE2,  // 88  out 0xE2, eax
        0x31, 0xD2,  // 8A  xor edx, edx                 to shared
        0xE8, 0xC0, 0xFF, 0xFF, 0xFF,  // 8C  call convert
        0xE7, 0xE3,  // 91  out 0xE3, eax
        0x31, 0xC0,  // 93  xor eax, eax
        0xE8, 0x94, 0xFF, 0xFF, 0xFF,  // 95  call check
        0xE7, 0xE4,  // 9A  out 0xE4, eax
        0xB8, 0x02, 0x00, 0x5A, 0x5A,  // 9C  mov eax, B
        0xE8, 0x72, 0xFF, 0xFF, 0xFF,  // A1  call fill
        0xE7, 0xE5,  // A6  out 0xE5, eax
        0xB8, 0x03, 0x00, 0x3C, 0x3C,  // A8  mov eax, C
        0xE8, 0x7C, 0xFF, 0xFF, 0xFF,  // AD  call check
        0xE7, 0xE6,  // B2  out 0xE6, eax
        0xBA, 0x10, 0x00, 0x00, 0x00,  // B4  mov edx, 0x10                to private
        0xE8, 0x93, 0xFF, 0xFF, 0xFF,  // B9  call convert
        0xE7, 0xE7,  // BE  out 0xE7, eax
        0x31, 0xC0,  // C0  xor eax, eax
        0xE8, 0x67, 0xFF, 0xFF, 0xFF,  // C2  call check
        0xE7, 0xE8,  // C7  out 0xE8, eax
        0xB8, 0x04, 0x00, 0xC3, 0xC3,  // C9  mov eax, D
        0xE8, 0x45, 0xFF, 0xFF, 0xFF,  // CE  call fill
        0xE7, 0xE9,  // D3  out 0xE9, eax
        0x31, 0xC0,  // D5  xor eax, eax
        0xE8, 0x52, 0xFF, 0xFF, 0xFF,  // D7  call check
        0xE7, 0xEA,  // DC  out 0xEA, eax
        0xF4,  // DE  hlt
        0xEB, 0xFD,  // DF  jmp DE
        0x90,  // E1  nop
        // spin: never ends
        0xEB, 0xFE,  // E2  jmp E2
    ]
}
