import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `A trust domain` {
    @Test func `lives from MNG.CREATE to the reclaim of its root page and leaves nothing`() throws {
        let host = try Host()
        let tdr = try host.makeTD()
        let vcpu = try host.makeVCPU(tdr)
        try host.makeTables(tdr, 0)
        let source: UInt64 = 0x20_0000
        let pattern = (0..<4096).map { UInt8(truncatingIfNeeded: $0) }
        pattern.withUnsafeBytes { host.memory.write(HostPhysicalAddress(source), key: KeyID(0), from: $0) }
        let page = host.page()
        try host.must(.memPageAdd, rcx: 0x1000, rdx: tdr, r8: page, r9: source)
        for chunk: UInt64 in 0..<16 { try host.must(.mrExtend, rcx: 0x1000 + chunk * 256, rdx: tdr) }
        try host.must(.mrFinalize, rcx: tdr)
        #expect(
            hex(host.state(tdr).mrtd)
                == "15a8464628b6214951c4a1b57775507dd950263654e8790e257995b45013c84aba1d87a3bcbc1929b5f7db6d3e92cad6")
        #expect(host.state(tdr).childCount == 6 + 6 + 3 + 1)

        // The guest accepts a page that the host added while it ran.
        let added = host.page()
        try host.must(.memPageAug, rcx: 0x2000, rdx: tdr, r8: added)
        #expect(host.enter(vcpu) == .success)
        #expect(host.accept(vcpu, 0x2000) == .completed(.success))
        #expect(
            host.module.access(GuestPhysicalAddress(0x2008), write: true, vcpu: HostPhysicalAddress(vcpu))
                == .memory(HostPhysicalAddress(added + 8), key: host.state(tdr).keyID))
        #expect(host.exit(vcpu) == TDXStatus(1))

        // It goes again: block, track, remove.
        try host.must(.memRangeBlock, rcx: 0x2000, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memPageRemove, rcx: 0x2000, rdx: tdr)
        #expect(host.registers.rcx == added)
        #expect(host.metadata(added).type == .free)

        let key = host.state(tdr).keyID
        try host.tearDown(tdr, vcpus: [vcpu])
        #expect(host.module.keyState(key) == .free)
        #expect(host.module.population == (0, 0, 0))
    }
}

func hex(_ bytes: [UInt8]) -> String {
    bytes.map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
    }.joined()
}
