internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.INFO (reference §1.7): what the module supports, and convertible memory.
    func sysInfo(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let (buffer, size, regions, count) = (r.rcx, r.rdx, r.r8, r.r9)
        r.rdx = 0
        r.r9 = 0
        guard system.withLock({ $0.processorsInitialized.contains(processor.rawValue) }) else {
            return .sysLPInitNotDone
        }
        guard let target = sharedOperand(buffer, alignment: 1024) else { return .operandInvalid.with(.rcx) }
        guard size >= 1024 else { return .operandInvalid.with(.rdx) }
        // The structure is cleared before the second buffer is looked at.
        memory.store([UInt8](repeating: 0, count: 1024), at: target.address, key: target.key)
        guard let list = sharedOperand(regions, alignment: 512) else { return .operandInvalid.with(.r8) }
        guard count >= ModuleLimits.convertibleRegions else { return .operandInvalid.with(.r9) }
        memory.store(systemInformation(), at: target.address, key: target.key)
        var bytes: [UInt8] = []
        for index in 0..<ModuleLimits.convertibleRegions {
            let range = index < platform.convertibleMemory.count ? platform.convertibleMemory[index] : nil
            for word in [range?.start.rawValue ?? 0, range?.size.rawValue ?? 0] {
                bytes += (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
            }
        }
        memory.store(bytes, at: list.address, key: list.key)
        r.rdx = 1024
        r.r9 = UInt64(ModuleLimits.convertibleRegions)
        return .success
    }

    /// TDSYSINFO_STRUCT, 1,024 bytes: limits at 32, sizes at 48, fixed bits at 64, CPUID list at 128.
    private func systemInformation() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
        }
        let sysRdBit: UInt64 = 1
        put(ModuleBuild.vendor, 4, 4)
        put(ModuleBuild.date, 8, 4)
        put(ModuleBuild.number, 12, 2)
        put(ModuleBuild.minor, 14, 2)
        put(ModuleBuild.major, 16, 2)
        put(sysRdBit, 18, 1)
        put(UInt64(ModuleLimits.tdmrs), 32, 2)
        put(UInt64(ModuleLimits.reservedAreas), 34, 2)
        put(UInt64(ModuleLimits.pamtEntrySize), 36, 2)
        put(UInt64(ModuleLimits.minimumControlPages) * 4096, 48, 2)
        put(UInt64(ModuleLimits.minimumVCPUPages) * 4096, 52, 2)
        put(TDParameters.allowedAttributes(platform.version), 64, 8)
        put(TDParameters.allowedXFAM & platform.processor.extendedStates, 80, 8)
        put(TDParameters.requiredXFAM, 88, 8)
        put(UInt64(CPUIDConfiguration.all.count), 128, 4)
        for (index, leaf) in CPUIDConfiguration.all.enumerated() {
            let bits = configurableBits(leaf)
            for (place, word) in [leaf.leaf, leaf.subleaf, bits.eax, bits.ebx, bits.ecx, bits.edx].enumerated() {
                put(UInt64(word), 132 + 24 * index + 4 * place, 4)
            }
        }
        return bytes
    }
}
