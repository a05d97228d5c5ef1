// Class 8: key ids and caches.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// KEY_GENERATION_FAILED: The processor could not generate a random key.
    @inlinable public static var keyGenerationFailed: TDXStatus { TDXStatus(0x8000_0800_0000_0000) }
    /// TD_KEYS_NOT_CONFIGURED: The key of the trust domain is not configured on every package, or was already released.
    @inlinable public static var tdKeysNotConfigured: TDXStatus { TDXStatus(0x8000_0810_0000_0000) }
    /// KEY_STATE_INCORRECT: The key id's state does not allow the call.
    @inlinable public static var keyStateIncorrect: TDXStatus { TDXStatus(0xC000_0811_0000_0000) }
    /// KEY_CONFIGURED: The key is configured on this package already.
    @inlinable public static var keyConfigured: TDXStatus { TDXStatus(0x0000_0815_0000_0000) }
    /// WBCACHE_NOT_COMPLETE: Caches of some package were not written back since the key was flushed.
    @inlinable public static var wbcacheNotComplete: TDXStatus { TDXStatus(0x8000_0817_0000_0000) }
    /// HKID_NOT_FREE: The key id is in use.
    @inlinable public static var hkidNotFree: TDXStatus { TDXStatus(0xC000_0820_0000_0000) }
    /// NO_HKID_READY_TO_WBCACHE: No flushed key id waits for a cache write-back.
    @inlinable public static var noHKIDReadyToWbcache: TDXStatus { TDXStatus(0x0000_0821_0000_0000) }
    /// WBCACHE_RESUME_ERROR: There is no interrupted cache write-back to resume.
    @inlinable public static var wbcacheResumeError: TDXStatus { TDXStatus(0xC000_0823_0000_0000) }
    /// FLUSHVP_NOT_DONE: Some vCPU is still associated with a logical processor.
    @inlinable public static var flushvpNotDone: TDXStatus { TDXStatus(0x8000_0824_0000_0000) }
    /// NUM_ACTIVATED_HKIDS_NOT_SUPPORTED: The platform activated more key ids than the module supports.
    @inlinable public static var numActivatedHKIDsNotSupported: TDXStatus { TDXStatus(0xC000_0825_0000_0000) }
}

extension StatusRow {
    static let key: [StatusRow] = [
        StatusRow(
            0x8000_0800, "KEY_GENERATION_FAILED",
            cause: "The processor could not generate a random key.",
            nextStep: "Retry after a short pause."),
        StatusRow(
            0x8000_0810, "TD_KEYS_NOT_CONFIGURED",
            cause: "The key of the trust domain is not configured on every package, or was already released.",
            nextStep: "Run MNG.KEY.CONFIG on each package; after VPFLUSHDONE only reclaim remains."),
        StatusRow(
            0xC000_0811, "KEY_STATE_INCORRECT",
            cause: "The key id's state does not allow the call.",
            nextStep: "Follow the order of the key's life cycle."),
        StatusRow(
            0x0000_0815, "KEY_CONFIGURED",
            cause: "The key is configured on this package already.",
            nextStep: "Nothing to do."),
        StatusRow(
            0x8000_0817, "WBCACHE_NOT_COMPLETE",
            cause: "Caches of some package were not written back since the key was flushed.",
            nextStep: "Run PHYMEM.CACHE.WB to its end on one processor of each package."),
        StatusRow(
            0xC000_0820, "HKID_NOT_FREE",
            cause: "The key id is in use.",
            nextStep: "Choose a free key id."),
        StatusRow(
            0x0000_0821, "NO_HKID_READY_TO_WBCACHE",
            cause: "No flushed key id waits for a cache write-back.",
            nextStep: "Nothing to do."),
        StatusRow(
            0xC000_0823, "WBCACHE_RESUME_ERROR",
            cause: "There is no interrupted cache write-back to resume.",
            nextStep: "Start one with RCX = 0."),
        StatusRow(
            0x8000_0824, "FLUSHVP_NOT_DONE",
            cause: "Some vCPU is still associated with a logical processor.",
            nextStep: "Run VP.FLUSH for each vCPU where it last ran."),
        StatusRow(
            0xC000_0825, "NUM_ACTIVATED_HKIDS_NOT_SUPPORTED",
            cause: "The platform activated more key ids than the module supports.",
            nextStep: "Lower the number in the firmware's set-up."),
    ]
}
