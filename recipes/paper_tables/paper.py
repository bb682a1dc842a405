"""The numbers of Tables IV to VIII of the deSpeckNet paper, and what is odd about them.

A. G. Mullissa, D. Marcos, D. Tuia, M. Herold, J. Reiche, "deSpeckNet: generalizing deep
learning-based SAR image despeckling", IEEE TGRS 60, 2022.

Odd in the paper: DG is printed as a comparison of the result with the noisy image, but its values
are PSNR of the result - PSNR of the input, except for two entries of Utrecht in Table VI and the
first one of Table VIII. Cx should be 1 / sqrt(ENL), and is not for Lee sigma in Utrecht and for
SAR-BM3D in Utrecht and Japan. The reference of Table V is the noisy image over a temporal mean that
contains it.
"""

LEE, BM3D, SAR_CNN, DESPECKNET = "Lee sigma", "SAR-BM3D", "SAR-CNN", "deSpeckNet"
METHODS = (LEE, BM3D, SAR_CNN, DESPECKNET)
REFERENCE = "reference"
SCENES = ("Indonesia", "DRC", "NL-Utrecht", "Japan", "NL-Flevoland", "Germany")
WITH_REFERENCE = SCENES[:3]
METRICS = ("PSNR", "SSIM", "DG", "EPI", "ENL", "Cx", "C_NN")

Table = dict[tuple[str, str], dict[str, float]]
"""Scene and metric: value of each method."""


def _row(*values: float) -> dict[str, float]:
    return dict(zip(METHODS, values, strict=True))


TABLE_4: Table = {
    ("Indonesia", "PSNR"): _row(39.10, 36.14, 45.67, 45.70),
    ("Indonesia", "SSIM"): _row(0.93, 0.86, 0.97, 0.97),
    ("Indonesia", "DG"): _row(4.76, 1.77, 11.49, 11.51),
    ("Indonesia", "EPI"): _row(0.20, 0.86, 0.90, 0.92),
    ("Indonesia", "ENL"): _row(30.51, 11.67, 105.35, 114.51),
    ("Indonesia", "Cx"): _row(0.18, 0.29, 0.09, 0.09),
    ("DRC", "PSNR"): _row(37.34, 35.52, 38.45, 39.33),
    ("DRC", "SSIM"): _row(0.89, 0.85, 0.90, 0.92),
    ("DRC", "DG"): _row(3.3, 1.47, 4.45, 5.3),
    ("DRC", "EPI"): _row(0.31, 0.84, 0.74, 0.92),
    ("DRC", "ENL"): _row(41.53, 11.04, 27.72, 118.21),
    ("DRC", "Cx"): _row(0.18, 0.30, 0.18, 0.09),
    ("NL-Utrecht", "PSNR"): _row(26.89, 28.02, 19.88, 28.14),
    ("NL-Utrecht", "SSIM"): _row(0.77, 0.81, 0.66, 0.84),
    ("NL-Utrecht", "DG"): _row(-0.3, 0.82, -7.25, 0.94),
    ("NL-Utrecht", "EPI"): _row(0.53, 0.97, 0.88, 0.87),
    ("NL-Utrecht", "ENL"): _row(100.66, 80.47, 57.36, 270.20),
    ("NL-Utrecht", "Cx"): _row(0.009, 0.15, 0.13, 0.062),
    ("NL-Utrecht", "C_NN"): _row(2.84, 2.57, 2.83, 2.08),
    ("Japan", "ENL"): _row(60.83, 42.45, 8.66, 114.95),
    ("Japan", "Cx"): _row(0.11, 0.10, 0.31, 0.09),
    ("NL-Flevoland", "ENL"): _row(41.40, 12.12, 5.56, 132.37),
    ("NL-Flevoland", "Cx"): _row(0.15, 0.28, 0.44, 0.08),
    ("Germany", "ENL"): _row(29.36, 5.69, 3.43, 65.86),
    ("Germany", "Cx"): _row(0.18, 0.41, 0.53, 0.12),
}

TABLE_5: Table = {
    ("Indonesia", "MoR"): _row(0.98, 0.95, 1.03, 1.05) | {REFERENCE: 1.05},
    ("Indonesia", "VoR"): _row(0.13, 0.03, 0.15, 0.16) | {REFERENCE: 0.18},
    ("DRC", "MoR"): _row(0.98, 0.95, 1.01, 0.93) | {REFERENCE: 1.02},
    ("DRC", "VoR"): _row(0.15, 0.05, 1.14, 0.10) | {REFERENCE: 0.17},
    ("NL-Utrecht", "MoR"): _row(0.98, 0.97, 1.41, 0.96) | {REFERENCE: 0.95},
    ("NL-Utrecht", "VoR"): _row(0.04, 0.01, 0.07, 0.02) | {REFERENCE: 0.04},
    ("Japan", "MoR"): _row(0.99, 0.89, 0.93, 0.96),
    ("Japan", "VoR"): _row(0.23, 0.16, 0.07, 0.23),
    ("NL-Flevoland", "MoR"): _row(0.97, 0.96, 0.91, 0.83),
    ("NL-Flevoland", "VoR"): _row(0.11, 0.02, 6.37, 0.18),
    ("Germany", "MoR"): _row(0.98, 0.78, 1.11, 1.04),
    ("Germany", "VoR"): _row(0.48, 0.15, 0.003, 0.54),
}

PHASE_1_ONLY, PHASE_2_ONLY, BOTH = "phase 1 only", "phase 2 only", "both phases"
BLOCKS = (PHASE_1_ONLY, PHASE_2_ONLY, BOTH)


def _blocks(*values: float) -> dict[str, float]:
    return dict(zip(BLOCKS, values, strict=True))


TABLE_6: Table = {
    ("Indonesia", "PSNR"): _blocks(45.76, 35.45, 45.76),
    ("Indonesia", "SSIM"): _blocks(0.97, 0.83, 0.97),
    ("Indonesia", "DG"): _blocks(11.51, 1.0, 11.51),
    ("Indonesia", "EPI"): _blocks(0.93, 0.75, 0.92),
    ("Indonesia", "ENL"): _blocks(101.83, 10.36, 101.83),
    ("DRC", "PSNR"): _blocks(38.45, 35.32, 39.32),
    ("DRC", "SSIM"): _blocks(0.90, 0.84, 0.92),
    ("DRC", "DG"): _blocks(4.42, 1.27, 5.3),
    ("DRC", "EPI"): _blocks(0.65, 0.66, 0.91),
    ("DRC", "ENL"): _blocks(26.03, 56.58, 121.10),
    ("NL-Utrecht", "PSNR"): _blocks(18.80, 24.39, 27.60),
    ("NL-Utrecht", "SSIM"): _blocks(0.63, 0.69, 0.83),
    ("NL-Utrecht", "DG"): _blocks(-8.39, -3.26, 0.94),
    ("NL-Utrecht", "EPI"): _blocks(0.76, 0.52, 0.84),
    ("NL-Utrecht", "ENL"): _blocks(62.90, 1.78, 242.61),
    ("NL-Utrecht", "C_NN"): _blocks(2.50, 1.41, 2.08),
    ("Japan", "ENL"): _blocks(10.71, 6.38, 158.21),
    ("NL-Flevoland", "ENL"): _blocks(14.98, 12.83, 127.49),
    ("Germany", "ENL"): _blocks(3.92, 1.47, 65.22),
}

Losses = tuple[float, float, float]
"""Weights of the losses: clean image (mu), total variation (lambda), noisy image (xi)."""
LOSS_METRICS = ("PSNR", "SSIM", "DG", "EPI", "ENL", "Cx")


def _scores(*values: float) -> dict[str, float]:
    return dict(zip(LOSS_METRICS, values, strict=True))


# Indonesia, weights of phase 1.
TABLE_7: dict[Losses, dict[str, float]] = {
    (1, 1e-2, 1e-2): _scores(38.62, 0.94, 4.59, 0.95, 62.65, 0.12),
    (1, 0, 1e-2): _scores(45.76, 0.97, 11.51, 0.93, 101.83, 0.09),
    (1, 0, 1e-1): _scores(45.66, 0.97, 11.48, 0.91, 111.61, 0.09),
    (1, 0, 1): _scores(44.23, 0.96, 9.99, 0.80, 165.76, 0.07),
    (1, 1e-3, 1e-3): _scores(45.41, 0.97, 11.21, 0.91, 112.49, 0.09),
    (1, 0, 1e-3): _scores(45.70, 0.97, 11.52, 0.90, 97.71, 0.10),
    (1, 1e-5, 1e-3): _scores(45.64, 0.97, 11.45, 0.94, 112.83, 0.09),
    (1, 1e-7, 1e-3): _scores(45.66, 0.97, 11.47, 0.93, 103.91, 0.09),
}

# DRC, weights of phase 2.
TABLE_8: dict[Losses, dict[str, float]] = {
    (1e-2, 1e-2, 1): _scores(26.55, 0.07, -33.93, 0.23, 8.43, -0.01),
    (1e-2, 0, 1): _scores(39.32, 0.92, 5.3, 0.92, 121.1, 0.09),
    (1.5e-2, 1e-5, 1): _scores(39.07, 0.91, 5.05, 0.61, 133.89, 0.08),
    (1.5e-2, 1e-4, 1): _scores(38.65, 0.91, 4.63, 0.63, 70.85, 0.11),
    (1.5e-2, 1e-6, 1): _scores(39.02, 0.91, 4.99, 0.61, 147.66, 0.08),
    (1.5e-3, 1e-6, 1): _scores(38.04, 0.89, 4.01, 0.80, 227.46, 0.06),
    (1.5e-1, 1e-4, 1): _scores(37.24, 0.88, 3.20, 0.89, 33.92, 0.17),
    (1.5, 1e-3, 1): _scores(36.90, 0.87, 2.86, 0.78, 42.84, 0.15),
}
