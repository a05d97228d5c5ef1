internal import KVM
internal import MemoryUnits
internal import SystemPackage

extension TDXMachine {
    func run(_ vcpu: VCPUCore) throws(KVMError) -> VCPUExit {
        let name = "KVM_RUN"
        try enter(name)
        return .internalError(subcode: 4, data: [0x8000_FF00_FFFF_0000])
    }

    func fetchPage(of file: GuestFile, at offset: ByteCount, into page: UnsafeMutableRawBufferPointer) {}
    func storePage(of file: GuestFile, at offset: ByteCount, from page: UnsafeRawBufferPointer) {}
}
