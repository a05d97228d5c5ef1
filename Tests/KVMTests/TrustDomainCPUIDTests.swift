import KVM
import Testing

struct TrustDomainCPUIDTests {
    @Test(arguments: [48, 52] as [UInt32])
    func `a list made of nothing has what Linux 7.2 looks at`(width: UInt32) throws {
        let list = TrustDomainCPUID.ofVCPU(told: [], guestAddressBits: width)
        #expect(list.map(\.function) == [1, 0x8000_0000, 0x8000_0008])
        #expect(TrustDomainCPUID.hasX2APIC(list))
        #expect(TrustDomainCPUID.physicalAddressBits(list) == 52)
        #expect(list[2].eax >> 16 & 0xFF == width)
    }

    @Test func `what the module tells stays, and only what KVM needs is added`() throws {
        let told = [
            CPUIDEntry(function: 0, eax: 0x21, ebx: 1), CPUIDEntry(function: 1, eax: 0xC06F2, ecx: 1 << 31, edx: 7),
            CPUIDEntry(function: 4, index: 1, flags: 1, eax: 3), CPUIDEntry(function: 0x8000_0000, eax: 0x8000_001D),
            CPUIDEntry(function: 0x8000_0008, eax: 0x39_34, ebx: 0x200),
        ]
        let list = TrustDomainCPUID.ofVCPU(told: told, guestAddressBits: 48)
        var expected = told
        expected[1].ecx = 1 << 31 | 1 << 21
        expected[4].eax = 0x30_39_34
        #expect(list == expected)
    }

    @Test func `a physical width below the guest-physical width is not believed`() {
        let told = [CPUIDEntry(function: 0x8000_0008, eax: 0x30_2E)]
        let list = TrustDomainCPUID.ofVCPU(told: told, guestAddressBits: 48)
        #expect(TrustDomainCPUID.physicalAddressBits(list) == 52)
    }

    @Test func `without leaf 0x80000000 KVM takes addresses for 36 bits wide`() {
        #expect(TrustDomainCPUID.physicalAddressBits([CPUIDEntry(function: 0x8000_0008, eax: 52)]) == 36)
        #expect(!TrustDomainCPUID.hasX2APIC([CPUIDEntry(function: 0x8000_0008, eax: 52)]))
    }
}
