// The functions are Swift's, in VMMLibrary.
#include "tdx_vmm.h"
