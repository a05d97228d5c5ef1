internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.INFO (reference §1.7): what the module supports, and convertible memory.
    func sysInfo(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let (buffer, size, regions, count) = (r.rcx, r.rdx, r.r8, r.r9)
        guard system.withLock({ $0.processorsInitialized.contains(processor.rawValue) }) else {
            return .sysLPInitNotDone
        }
        guard let target = sharedOperand(buffer, alignment: 1024) else { return .operandInvalid.with(.rcx) }
        guard size >= 1024 else { return .operandInvalid.with(.rdx) }
        guard let list = sharedOperand(regions, alignment: 512) else { return .operandInvalid.with(.r8) }
        guard count >= 32 else { return .operandInvalid.with(.r9) }
        memory.store(systemInformation(), at: target.address, key: target.key)
        var bytes: [UInt8] = []
        for index in 0..<32 {
            let range = index < platform.convertibleMemory.count ? platform.convertibleMemory[index] : nil
            for word in [range?.start.rawValue ?? 0, range?.size.rawValue ?? 0] {
                bytes += (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
            }
        }
        memory.store(bytes, at: list.address, key: list.key)
        r.rdx = 1024
        r.r9 = UInt64(platform.convertibleMemory.count)
        return .success
    }

    /// TDSYSINFO_STRUCT, 1,024 bytes: limits at 32, sizes at 48, fixed bits at 64, CPUID list at 128.
    private func systemInformation() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
        }
        // Major version 1, minor version 5, build 1.
        put(1, 12, 2)
        put(5, 14, 2)
        put(1, 16, 2)
        put(64, 32, 2)
        put(16, 34, 2)
        put(16, 36, 2)
        put(6 * 4096, 48, 2)
        put(6 * 4096, 52, 2)
        put(TDParameters.allowedAttributes(platform.version), 64, 8)
        put(TDParameters.allowedXFAM, 80, 8)
        put(TDParameters.requiredXFAM, 88, 8)
        put(UInt64(CPUIDConfiguration.all.count), 128, 4)
        for (index, leaf) in CPUIDConfiguration.all.enumerated() {
            for (place, word) in [leaf.leaf, leaf.subleaf, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx].enumerated() {
                put(UInt64(word), 132 + 24 * index + 4 * place, 4)
            }
        }
        return bytes
    }

    /// SYS.RD (reference §1.7): one field; RDX becomes the next id, all ones after the last.
    func sysRd(_ r: inout Registers) -> TDXStatus {
        let fields = SystemField.all(platform)
        if r.rdx == .max {
            r.rdx = fields[0].id
            return .metadataFirstFieldIDInContext
        }
        let id = r.rdx
        guard let place = fields.firstIndex(where: { $0.id == id }) else { return .metadataFieldIDIncorrect }
        r.r8 = fields[place].value
        r.rdx = place + 1 < fields.count ? fields[place + 1].id : .max
        return .success
    }
}
